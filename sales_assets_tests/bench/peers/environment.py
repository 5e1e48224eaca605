"""An environment for dlt and dbt, made on demand from `requirements.lock` and kept in the user's cache.

They stay out of .venv: what they pin would hold back what Dagster and the services are locked to, and nothing but a
comparison needs them. ``python -m sales_assets_tests.bench.peers.environment`` makes it and says where it is.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

_LOCK = Path(__file__).with_name("requirements.lock")
# Wheels only: the sdist of a package in dbt's newest releases downloads a program while it is built, which no hash of
# the lock file covers.
_OPTIONS = ["--quiet", "--require-hashes", "--only-binary", ":all:", "--requirement", str(_LOCK)]


class NoEnvironmentError(Exception):
    """The environment could not be made, as without a network; the message says what was tried."""


def environment(*, make: bool = True) -> Path:
    """The folder of the programs (`python`, `dbt`); the environment is made if it is not there and `make` allows it.

    Another lock file or Python means another folder: an environment is never changed, and may be deleted at any time.

    Raises:
        NoEnvironmentError: it is not there and can't be, or may not be, made.
    """
    wanted = hashlib.sha256(_LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
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
                print(f"installing {_LOCK.name} into {folder}", file=sys.stderr)
                shutil.rmtree(folder, ignore_errors=True)  # one that was interrupted
                _install(folder)
                installed.touch()
    return folder / "bin"


def _install(folder: Path) -> None:
    """Install with uv, or with pip: it may know of the package index what uv does not."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    own = Path(sys.executable).with_name("uv")
    uv = str(own) if own.exists() else shutil.which("uv")
    ways = [[uv, "pip", "install", "--python", python, "--compile-bytecode"]] if uv else []
    ways.append([python, "-m", "pip", "install", "--disable-pip-version-check"])
    tried = []
    for way in ways:
        done = subprocess.run([*way, *_OPTIONS], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        tried.append(f"{Path(way[0]).name}: {done.stderr.strip()[-500:]}")
    raise NoEnvironmentError("dlt and dbt can't be installed; " + "; ".join(tried))


if __name__ == "__main__":
    try:
        print(environment())
    except NoEnvironmentError as error:
        sys.exit(str(error))
