"""The systemd units: no findings of systemd-analyze, and the commands that compose.yaml has."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from sales_assets.deploy import instance
from sales_assets_tests.deploy.artefacts import DEPLOY, ENVIRONMENT, PROFILES, compose, our_services, run, tool

FOLDER = DEPLOY / "systemd"
BIN = "/opt/sales_assets/bin"
UNITS = sorted(FOLDER.glob("*.service"))
COMMON = FOLDER / "sales-assets-.service.d" / "common.conf"
# Of 10; units without any hardening have 9.6.
_MOST_EXPOSED = 2.0


def values(name: str) -> dict[str, str]:
    """Value of a directive by name of the service in compose.yaml."""
    found = {}
    for unit in UNITS:
        for value in re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
            service = unit.name.removeprefix("sales-assets-").removesuffix(".service").removesuffix("@")
            assert service not in found
            found[service] = value
    return found


def commands() -> dict[str, list[str]]:
    """Command by name of the service, without the number of an instance."""
    lines = values("ExecStart")
    assert all(line.startswith(f"{BIN}/") for line in lines.values())
    return {
        name: line.removeprefix(f"{BIN}/").replace("%%", "%").replace("-%i@", "@").split()
        for name, line in lines.items()
    }


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder of units, with this environment in place of the installed one."""
    folder = tmp_path / "units"
    shutil.copytree(FOLDER, folder)
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text(encoding="utf-8").replace(BIN, str(Path(sys.executable).parent)))
    return folder


@pytest.mark.external
def test_systemd_analyze_finds_nothing(installed: Path) -> None:
    units = [*installed.glob("*.service"), *installed.glob("*.target")]
    done = run(tool("systemd-analyze", wheel=False), "verify", "--man=no", *units)
    # Findings are warnings for it; those about other units of the machine are not ours.
    ours = [line for line in done.stderr.splitlines() if "sales-assets" in line or str(installed) in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.external
def test_the_drop_in_hardens_every_unit(installed: Path) -> None:
    analyze = tool("systemd-analyze", wheel=False)
    # `verify` reads the drop-in where it is, `security` only in a folder of systemd's.
    for unit in sorted(installed.glob("*.service")):
        done = run(analyze, "security", "--offline=true", "--no-pager", unit, SYSTEMD_UNIT_PATH=str(installed))
        (exposure,) = re.findall(r"exposure level for .*: ([\d.]+)", done.stdout)
        assert float(exposure) <= _MOST_EXPOSED, done.stdout


@pytest.mark.external
def test_the_commands_are_those_of_compose() -> None:
    composed = {name: service.argv for name, service in our_services(compose(*PROFILES, **ENVIRONMENT)).items()}
    composed["migrate"] = ["sales-assets", "migrate"]
    # On a machine without containers they listen on the loopback.
    expected = {name: [word.replace("0.0.0.0", "127.0.0.1") for word in argv] for name, argv in composed.items()}
    assert commands() == expected


@pytest.mark.external
def test_limits_and_grace_are_those_of_compose() -> None:
    composed = compose(*PROFILES, **ENVIRONMENT)
    limits = values("MemoryMax")
    assert limits == {name: f"{int(composed['services'][name]['mem_limit']) >> 20}M" for name in limits}
    grace = {name: f"{service.grace:.0f}" for name, service in our_services(composed).items()}
    assert values("TimeoutStopSec") == {name: seconds for name, seconds in grace.items() if name in limits}
    assert limits.keys() == grace.keys() - {"migrate"}


def test_the_units_have_the_environment_that_the_commands_set() -> None:
    lines = re.findall(r"^Environment=(.*)$", COMMON.read_text(encoding="utf-8"), re.MULTILINE)
    given = dict(pair.split("=", 1) for line in lines for pair in line.split())
    assert instance._DEFAULTS.items() <= given.items()


def test_the_workspace_differs_by_its_host_only() -> None:
    ours, composed = (
        yaml.safe_load((folder / "workspace.yaml").read_text(encoding="utf-8"))["load_from"][0]["grpc_server"]
        for folder in (FOLDER, DEPLOY)
    )
    assert ours | {"host": composed["host"]} == composed
    assert ours["host"] == "127.0.0.1"


def test_the_guide_names_units_and_files_that_exist() -> None:
    page = (DEPLOY.parent / "docs" / "guides" / "several-machines.md").read_text(encoding="utf-8")
    enabled = re.findall(r"systemctl enable --now (.*)", page)
    names = {re.sub(r"@\d+", "@", name) for line in enabled for name in line.split()}
    assert names
    files = {unit.name.removesuffix(".service") for unit in FOLDER.iterdir()}
    assert names <= files
    copied = re.findall(r"deploy/systemd/([\w.*@-]+)", page)
    assert [pattern for pattern in copied if not list(FOLDER.glob(pattern))] == []
