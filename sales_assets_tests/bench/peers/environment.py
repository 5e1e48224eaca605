"""A Python environment for dlt, dbt and datacontract-cli, created from `requirements.lock` in the user's cache.

The environment is created on demand. The tools are not in .venv: their pinned versions would restrict those of Dagster
and the services, and only comparisons and tests of the readers' contract need them. ``python -m
sales_assets_tests.bench.peers.environment`` creates the environment and prints its folder; `make test` calls it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).with_name("requirements.lock")
# The packages of the extra [openlineage] that .venv lacks: Dagster imports the integration with any definitions.
OPENLINEAGE = Path(__file__).with_name("openlineage.lock")
# Wheels only: the sdist of a package in dbt's newest releases downloads a program during its build, which no hash in
# the lock file covers.
_OPTIONS = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement"]


class NoEnvironmentError(Exception):
    """The environment could not be created, for example without a network; the message lists the attempts."""


def environment(lock: Path = PEERS, *, make: bool = True) -> Path:
    """Return the folder of the programs (`python`, `dbt`); create the environment if it is missing and `make` is true.

    Each lock file and Python version has a separate folder: an environment is never changed, and may be deleted at any
    time.

    Raises:
        NoEnvironmentError: the environment is missing, and can't or may not be created.
    """
    wanted = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sales_assets"
    folder = cache / f"peers-{wanted}"
    installed = folder / ".installed"
    if not installed.exists():
        if not make:
            raise NoEnvironmentError(f"there is no {folder}; python -m {__spec__.name} makes it")
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "peers.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if not installed.exists():
                print(f"installing {lock.name} into {folder}", file=sys.stderr)
                shutil.rmtree(folder, ignore_errors=True)  # an interrupted installation
                _install(folder, lock)
                installed.touch()
    return folder / "bin"


def environment_or_skip(lock: Path = PEERS) -> Path:
    """Return the folder of the programs. If they are missing, skip the test; with REQUIRE_PEERS=1, fail it."""
    try:
        return environment(lock, make=False)
    except NoEnvironmentError as error:
        if os.environ.get("REQUIRE_PEERS"):
            pytest.fail(f"REQUIRE_PEERS is set, and {error}")
        pytest.skip(f"NOT TESTED WITH THE PACKAGES OF {lock.name}: {error}")


def _install(folder: Path, lock: Path) -> None:
    """Install with uv, otherwise with pip, whose configuration may have a package index that uv does not know."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    own = Path(sys.executable).with_name("uv")
    uv = str(own) if own.exists() else shutil.which("uv")
    ways = [[uv, "pip", "install", "--python", python, "--compile-bytecode"]] if uv else []
    ways.append([python, "-m", "pip", "install", "--disable-pip-version-check"])
    tried = []
    for way in ways:
        done = subprocess.run([*way, *_OPTIONS, str(lock)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        tried.append(f"{Path(way[0]).name}: {done.stderr.strip()[-500:]}")
    raise NoEnvironmentError(f"{lock.name} can't be installed; " + "; ".join(tried))


if __name__ == "__main__":
    try:
        print(environment(PEERS), environment(OPENLINEAGE))
    except NoEnvironmentError as error:
        sys.exit(str(error))
