"""The image: no findings of hadolint, nothing but locked packages, and the environment of Dagster's processes."""

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


def test_what_the_image_installs_is_locked() -> None:
    """The lock is made of the development extra; what another extra has beyond it would be installed unlocked."""
    extras = set(re.findall(r"--extra (\w+)", DOCKERFILE.read_text(encoding="utf-8")))
    assert extras == {"s3", "workers", "k8s", "lake"}
    optional = PROJECT["optional-dependencies"]
    locked = set(map(str, map(Requirement, optional["dev"])))
    assert {line for extra in extras for line in optional[extra] if str(Requirement(line)) not in locked} == set()


def test_python_and_uv_are_those_of_the_tests() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (python,) = [step["with"]["python-version"] for step in workflow["jobs"]["check"]["steps"] if "with" in step]
    assert f"ARG PYTHON={python}-slim" in text
    (uv,) = re.findall(r"^UV := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert f" {uv} " in text


def test_the_image_has_the_environment_that_the_commands_set() -> None:
    assert instance._DEFAULTS.items() <= image_environment().items()


def test_it_runs_as_a_number_that_is_not_root_and_declares_what_it_writes() -> None:
    given = dict(instructions())
    assert given["USER"] == "10001:10001"
    assert {"SALES_HOME", "TMPDIR"} <= image_environment().keys()
    for name in ("SALES_HOME", "TMPDIR"):
        assert f'"{image_environment()[name]}"' in given["VOLUME"]
    assert "HEALTHCHECK" in given


def test_it_has_no_entry_point() -> None:
    """Dagster's Helm chart and K8sRunLauncher give `dagster api ...` as arguments, which an entry point would get."""
    given = dict(instructions())
    assert "ENTRYPOINT" not in given
    assert json.loads(given["CMD"])[:2] == ["sales-assets", "api"]


def test_only_what_is_copied_is_sent_to_the_builder() -> None:
    """.dockerignore lets in what COPY names: no .env, no history, no tests."""
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    copied = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    sources = {source for line in copied for source in line.split()[:-1]}
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize(
    "file", [DOCKERFILE, DEPLOY / "compose.yaml", *sorted((DEPLOY / "kubernetes").glob("*.yaml"))], ids=lambda p: p.name
)
def test_all_name_the_image_of_this_version(file: Path) -> None:
    found = set(re.findall(r"\bsales_assets:([\w.-]+)", file.read_text(encoding="utf-8")))
    assert found <= {VERSION}
