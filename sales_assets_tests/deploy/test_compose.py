"""compose.yaml: valid in every profile, not reachable from outside, without secrets, and hardened."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from sales_assets_tests.deploy.artefacts import (
    COMPOSE,
    DEPLOY,
    ENVIRONMENT,
    PROFILES,
    SECRET_SETTINGS,
    SECRETS,
    compose,
    our_services,
    run,
)

pytestmark = pytest.mark.external

# Services that accept no requests, or end.
WITHOUT_CHECK = {"migrate", "mailings-beat"}


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    return compose(*PROFILES, **ENVIRONMENT)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid_and_has_services(profile: str) -> None:
    services = compose(profile, **ENVIRONMENT)["services"]
    assert services
    # The dependencies of each service are in the same profile.
    assert {needed for one in services.values() for needed in one.get("depends_on", {})} <= services.keys()


def test_every_profile_is_tested(everything: dict[str, Any]) -> None:
    assert {profile for one in everything["services"].values() for profile in one["profiles"]} == {*PROFILES}


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_missing_secret_is_an_error(missing: str) -> None:
    rest = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    done = run(*COMPOSE, "--profile", "core", "config", "--quiet", **rest)
    assert done.returncode != 0
    assert f"required variable {missing} is missing" in done.stderr


def test_ports_are_on_the_loopback_only(everything: dict[str, Any]) -> None:
    published = [port for one in everything["services"].values() for port in one.get("ports", ())]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert len({port["published"] for port in published}) == len(published)


def test_services_are_hardened_and_have_limits(everything: dict[str, Any]) -> None:
    for name, one in everything["services"].items():
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert int(one["mem_limit"]) >= 256 << 20, name
        assert "privileged" not in one, name
        assert one["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        # Compose copies configs without a file into the container, which fails if it is read-only.
        assert all("file" in everything["configs"][config["source"]] for config in one.get("configs", ())), name
        check = one.get("healthcheck", {})
        assert ("test" in check and not check.get("disable")) == (name not in WITHOUT_CHECK), name


def test_each_process_has_exactly_the_secrets_that_it_needs(everything: dict[str, Any]) -> None:
    """A secret is set in the environment of a process, never on its command line, which other users can read."""
    mailings = {"api", "mailings-beat", "mailings-worker"}
    holders = {
        "WAREHOUSE_URL": {*our_services(everything)},
        "RABBITMQ_URL": {*mailings, "order-events", "daemon", "webserver", "run-worker"},
        "REPORT_API_KEY": {"code-server", "run-worker"},
        "ALERT_URLS": {"code-server"},
        "OPENLINEAGE_API_KEY": {"code-server"},
        "SENDER_TOKEN": mailings,
        "MAILINGS_UNSUBSCRIBE_SECRET": mailings,
        "MAILINGS_ADMIN_PASSWORD": {"api"},
        "MAILINGS_ADMIN_SECRET": {"api"},
        "SALES_ERASURE_SECRET": {"api", "order-events", "code-server"},
    }
    assert holders.keys() == SECRET_SETTINGS
    holders["GF_SECURITY_ADMIN_PASSWORD"] = {"grafana"}
    # A process with the unsubscribe secret needs the URL too.
    holders["MAILINGS_UNSUBSCRIBE_URL"] = mailings
    services = everything["services"]
    for variable, names in holders.items():
        assert {name for name, one in services.items() if variable in one.get("environment", {})} == names, variable
    shown = json.dumps([{**one, "environment": None} for one in services.values()])
    assert [secret for secret in SECRETS.values() if secret in shown] == []


def test_database_broker_and_object_store_have_no_external_network(everything: dict[str, Any]) -> None:
    assert everything["networks"]["data"]["internal"]
    for name in ("postgres", "rabbitmq", "s3"):
        assert list(everything["services"][name]["networks"]) == ["data"]


def test_the_file_itself_holds_no_secret() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    given = re.findall(r"^\s+(\w*(?:PASSWORD|PASS|SECRET|TOKEN|KEY)\w*):(.*)$", text, re.MULTILINE)
    assert given
    assert [name for name, value in given if value.strip() and not value.strip().startswith("${")] == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="THE GUIDE'S COMMANDS ARE NOT TESTED: there is no openssl")
def test_the_commands_of_the_guide_make_a_configuration_that_is_complete(tmp_path: Path) -> None:
    """Run the guide's commands literally, except `up`, which would need Docker."""
    page = (DEPLOY.parent / "docs" / "guides" / "several-machines.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(for name in .*?)^```", page, re.MULTILINE | re.DOTALL)
    *commands, up = block.strip().splitlines()
    for command in commands:
        assert run("bash", "-c", f"cd {tmp_path}; {command}").returncode == 0
    given = tmp_path / ".env"
    assert len(set(given.read_text().splitlines())) == len(SECRETS) + 1
    profiles = re.findall(r"--profile \w+", up)
    assert up.startswith(f"docker compose {' '.join(profiles)} up --detach --build --wait")
    done = run(*COMPOSE[:-1], given, *" ".join(profiles).split(), "config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
