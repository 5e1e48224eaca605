"""Container image: no hadolint findings, only locked packages, and the environment variables of Dagster processes."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from sales_assets.deploy import instance
from sales_assets_tests.deploy.artefacts import DEPLOY, VERSION, image_environment, instructions, run, tool

DOCKERFILE = DEPLOY / "Dockerfile"
ROOT = DEPLOY.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.external
def test_hadolint_finds_nothing() -> None:
    done = run(tool("hadolint"), "--no-color", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_packages_of_the_image_are_locked() -> None:
    """The lock file is made from the development extra; packages that are only in another extra would be unlocked."""
    extras = set(re.findall(r"--extra (\w+)", DOCKERFILE.read_text(encoding="utf-8")))
    assert extras == {"s3", "workers", "k8s", "lake", "alerts", "reports"}
    optional = PROJECT["optional-dependencies"]
    locked = set(map(str, map(Requirement, optional["dev"])))
    assert {line for extra in extras for line in optional[extra] if str(Requirement(line)) not in locked} == set()


def test_python_and_uv_have_the_versions_of_the_tests() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (python,) = [step["with"]["python-version"] for step in workflow["jobs"]["check"]["steps"] if "with" in step]
    assert f"ARG PYTHON={python}-slim" in text
    (uv,) = re.findall(r"^UV := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert f" {uv} " in text


def test_image_has_the_environment_variables_of_the_commands() -> None:
    assert instance._DEFAULTS.items() <= image_environment().items()


def test_image_runs_as_a_numeric_non_root_user_and_declares_its_volumes() -> None:
    given = dict(instructions())
    assert given["USER"] == "10001:10001"
    assert {"SALES_HOME", "TMPDIR"} <= image_environment().keys()
    for name in ("SALES_HOME", "TMPDIR"):
        assert f'"{image_environment()[name]}"' in given["VOLUME"]
    assert "HEALTHCHECK" in given


def test_image_has_no_entry_point() -> None:
    """Dagster's Helm chart and K8sRunLauncher pass `dagster api ...` as arguments, which would go to an entry point."""
    given = dict(instructions())
    assert "ENTRYPOINT" not in given
    assert json.loads(given["CMD"])[:2] == ["sales-assets", "api"]


def test_only_copied_files_are_in_the_build_context() -> None:
    """.dockerignore admits exactly the paths of COPY: no .env, no history, no tests."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    copied = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    sources = {source for line in copied for source in line.split()[:-1]}
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize(
    "file", [DOCKERFILE, DEPLOY / "compose.yaml", *sorted((DEPLOY / "kubernetes").glob("*.yaml"))], ids=lambda p: p.name
)
def test_artefacts_use_the_image_of_this_version(file: Path) -> None:
    found = set(re.findall(r"\bsales_assets:([\w.-]+)", file.read_text(encoding="utf-8")))
    assert found <= {VERSION}
