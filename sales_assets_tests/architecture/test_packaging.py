"""What is installed: the wheel holds all that runs, and the lock file all that the wheel asks for."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sales_assets_tests.architecture.modules import PACKAGE

ROOT = PACKAGE.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves a build folder and an egg-info where it works."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "sales_assets_tests")
    shutil.copytree(ROOT, source, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", folder, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def names(folder: Path) -> set[str]:
    """The files below a folder of the checkout, but what running it leaves behind."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def test_the_version_has_a_dated_section_in_the_changelog() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(PROJECT['version'])} - \d{{4}}-\d{{2}}-\d{{2}}", headings[1])


@pytest.mark.external
def test_the_wheel_holds_package_and_statements_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == names(PACKAGE) | {f"sales_assets/{name}" for name in names(ROOT / "sql")} | {
        "sales_assets/pyproject.toml"
    }
    assert {"sales_assets/deploy/templates/one-machine.yaml", "sales_assets/sql/mart/f_sales.sql"} <= packed


@pytest.mark.external
def test_what_lies_in_the_wheel_can_be_run(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})  # before the checkout, which must not answer in its place
import sales_assets
from sales_assets.definitions import defs
from sales_assets.postgres import migrations
print(sales_assets.__file__, len(migrations.revisions()), len(defs().resolve_asset_graph().get_all_asset_keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file, revisions, assets = done.stdout.split()
    assert Path(file).is_relative_to(tmp_path)
    assert int(revisions) == len(list((ROOT / "sql/migrations/versions").glob("*.py")))
    assert int(assets) > 0


def test_everything_asked_for_is_locked() -> None:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    locked = {canonicalize_name(name): version for name, version in pins}
    asked = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]
    missing = [
        str(requirement)
        for requirement in asked
        if not requirement.specifier.contains(locked.get(canonicalize_name(requirement.name), "0"))
    ]
    assert missing == [], "`make lock` brings requirements.lock up to date with pyproject.toml"


def test_the_lock_file_names_no_place_and_no_package_without_its_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*--(?!hash)|^-", text, re.MULTILINE)
    entries = re.split(r"\n(?=\w)", text)
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
