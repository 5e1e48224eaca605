"""compose.yaml: valid in every profile, closed to the outside, without a secret, and hardened."""

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
    SECRETS,
    compose,
    our_services,
    run,
)

pytestmark = pytest.mark.external

# They answer nobody, or end.
WITHOUT_CHECK = {"migrate", "mailings-beat"}


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    return compose(*PROFILES, **ENVIRONMENT)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid_and_has_services(profile: str) -> None:
    services = compose(profile, **ENVIRONMENT)["services"]
    assert services
    # What a service depends on is in its profiles.
    assert {needed for one in services.values() for needed in one.get("depends_on", {})} <= services.keys()


def test_the_profiles_are_all_there_are(everything: dict[str, Any]) -> None:
    assert {profile for one in everything["services"].values() for profile in one["profiles"]} == {*PROFILES}


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_missing_secret_stops_it(missing: str) -> None:
    rest = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    done = run(*COMPOSE, "--profile", "core", "config", "--quiet", **rest)
    assert done.returncode != 0
    assert f"required variable {missing} is missing" in done.stderr


def test_ports_are_on_the_loopback_only(everything: dict[str, Any]) -> None:
    published = [port for one in everything["services"].values() for port in one.get("ports", ())]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert len({port["published"] for port in published}) == len(published)


def test_all_are_hardened_and_bounded(everything: dict[str, Any]) -> None:
    for name, one in everything["services"].items():
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert int(one["mem_limit"]) >= 256 << 20, name
        assert "privileged" not in one, name
        assert one["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        # Compose copies other configs into the container, which a read-only one refuses.
        assert all("file" in everything["configs"][config["source"]] for config in one.get("configs", ())), name
        check = one.get("healthcheck", {})
        assert ("test" in check and not check.get("disable")) == (name not in WITHOUT_CHECK), name


def test_every_process_gets_the_secrets_that_it_needs_and_no_others(everything: dict[str, Any]) -> None:
    """A secret is in the environment of a process, never on its command line, where everybody sees it."""
    holders = {
        "WAREHOUSE_URL": {*our_services(everything)},
        "REPORT_API_KEY": {"code-server", "run-worker"},
        "SENDER_TOKEN": {"api", "mailings-beat", "mailings-worker"},
        "MAILINGS_ADMIN_PASSWORD": {"api"},
        "GF_SECURITY_ADMIN_PASSWORD": {"grafana"},
    }
    services = everything["services"]
    for variable, names in holders.items():
        assert {name for name, one in services.items() if variable in one.get("environment", {})} == names, variable
    shown = json.dumps([{**one, "environment": None} for one in services.values()])
    assert [secret for secret in SECRETS.values() if secret in shown] == []


def test_database_broker_and_object_store_reach_nothing_outside(everything: dict[str, Any]) -> None:
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
    """As they are written there, but for `up`, which would need Docker."""
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
