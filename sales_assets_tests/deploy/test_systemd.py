"""systemd units: no findings of systemd-analyze, and the same commands as compose.yaml."""

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
# On systemd's scale of 0 to 10; units without hardening have 9.6.
_MOST_EXPOSED = 2.0


def values(name: str) -> dict[str, str]:
    """Return the value of a directive for each service, with the names of compose.yaml."""
    found = {}
    for unit in UNITS:
        for value in re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE):
            service = unit.name.removeprefix("sales-assets-").removesuffix(".service").removesuffix("@")
            assert service not in found
            found[service] = value
    return found


def commands() -> dict[str, list[str]]:
    """Return the command of each service, without the instance number."""
    lines = values("ExecStart")
    assert all(line.startswith(f"{BIN}/") for line in lines.values())
    return {
        name: line.removeprefix(f"{BIN}/").replace("%%", "%").replace("-%i@", "@").split()
        for name, line in lines.items()
    }


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the units with the paths of this Python environment."""
    folder = tmp_path / "units"
    shutil.copytree(FOLDER, folder)
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text(encoding="utf-8").replace(BIN, str(Path(sys.executable).parent)))
    return folder


@pytest.mark.external
def test_systemd_analyze_finds_nothing(installed: Path) -> None:
    units = [*installed.glob("*.service"), *installed.glob("*.target")]
    done = run(tool("systemd-analyze", wheel=False), "verify", "--man=no", *units)
    # systemd-analyze reports findings as warnings; those about other units of the machine are ignored.
    ours = [line for line in done.stderr.splitlines() if "sales-assets" in line or str(installed) in line]
    assert (done.returncode, ours) == (0, [])


@pytest.mark.external
def test_the_drop_in_hardens_every_unit(installed: Path) -> None:
    analyze = tool("systemd-analyze", wheel=False)
    # `verify` finds the drop-in next to the unit, `security` only in a unit path of systemd.
    for unit in sorted(installed.glob("*.service")):
        done = run(analyze, "security", "--offline=true", "--no-pager", unit, SYSTEMD_UNIT_PATH=str(installed))
        (exposure,) = re.findall(r"exposure level for .*: ([\d.]+)", done.stdout)
        assert float(exposure) <= _MOST_EXPOSED, done.stdout


@pytest.mark.external
def test_systemd_commands_equal_those_of_compose() -> None:
    composed = {name: service.argv for name, service in our_services(compose(*PROFILES, **ENVIRONMENT)).items()}
    composed["migrate"] = ["sales-assets", "migrate"]
    # Without containers the services listen on the loopback interface.
    expected = {name: [word.replace("0.0.0.0", "127.0.0.1") for word in argv] for name, argv in composed.items()}
    assert commands() == expected


@pytest.mark.external
def test_limits_and_stop_timeouts_equal_those_of_compose() -> None:
    composed = compose(*PROFILES, **ENVIRONMENT)
    limits = values("MemoryMax")
    assert limits == {name: f"{int(composed['services'][name]['mem_limit']) >> 20}M" for name in limits}
    grace = {name: f"{service.grace:.0f}" for name, service in our_services(composed).items()}
    assert values("TimeoutStopSec") == {name: seconds for name, seconds in grace.items() if name in limits}
    assert limits.keys() == grace.keys() - {"migrate"}


def test_units_have_the_environment_variables_of_the_commands() -> None:
    lines = re.findall(r"^Environment=(.*)$", COMMON.read_text(encoding="utf-8"), re.MULTILINE)
    given = dict(pair.split("=", 1) for line in lines for pair in line.split())
    assert instance._DEFAULTS.items() <= given.items()


def test_workspace_differs_from_compose_only_by_the_host() -> None:
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
