"""Upgrade the embedded server's data folder to this release's major version of PostgreSQL, with pg_upgrade.

The new folder is built beside the old one and takes its place when it is complete; the old one is kept unchanged as
``data-<version>``. If an upgrade is interrupted between the two renames, the server refuses to start, and the next call
completes it.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

from sales_assets.fsync import fsync
from sales_assets.postgres.embedded.postgres import (
    MAJOR,
    ROLE,
    UPGRADED,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    binary,
    program_environment,
)

# The wheel also carries the programs of its former releases.
_BUNDLED = {"16": "pginstall"}
_LINES_SHOWN = 15
_SETTINGS = "postgresql.auto.conf"


def upgrade(server: EmbeddedPostgres, programs: Path | None = None) -> Path | None:
    """Upgrade a home's data, and return the folder with the old data; None if there is nothing to upgrade.

    Stops the server if it runs, and does not start it again. Needs as much free space as the data take. ALTER SYSTEM's
    settings are kept.

    programs: folder of the former version's programs (pg_ctl, postgres, ...), unless the wheel has them.

    Raises `EmbeddedPostgresError`, and leaves the old data in place.
    """
    version = server.data_version()
    if version == str(MAJOR) or not server.home.exists():
        return None
    server.stop()
    with server.locked():
        upgraded = server.home / UPGRADED
        if version is None:
            kept = next(iter(server.home.glob("data-*")), None)
            if kept is None or not upgraded.exists():
                return None
        else:
            kept = server.home / f"data-{version}"
            if kept.exists():
                raise EmbeddedPostgresError(f"{kept} already exists, from an earlier upgrade: remove or move it")
            _build(server, programs or _programs(version))
            server.data.rename(kept)
        upgraded.rename(server.data)
        fsync(server.home)
        shutil.rmtree(upgraded.parent, ignore_errors=True)
        return kept


def _programs(version: str) -> Path:
    if version not in _BUNDLED:
        raise EmbeddedPostgresError(
            f"the data were written by PostgreSQL {version}, whose programs this release does not have: install that "
            f"version and pass the folder of its programs, as in --programs /usr/lib/postgresql/{version}/bin"
        )
    return binary("pg_upgrade").parents[2] / _BUNDLED[version] / "bin"


def _build(server: EmbeddedPostgres, programs: Path) -> None:
    """Build the upgraded folder with pg_upgrade, which works on a copy of the data."""
    new = EmbeddedPostgres((server.home / UPGRADED).parent)
    shutil.rmtree(new.home, ignore_errors=True)
    new.home.mkdir(mode=0o700)
    run_as = server.run_as()
    server.claim(run_as)
    os.chown(new.home, run_as.uid, run_as.gid)
    # pg_upgrade requires the same choice in both folders; the server of version 18 and later has checksums by default.
    described = _run([str(programs / "pg_controldata"), str(server.data)], new.home)
    has_checksums = "Data page checksum version:           0" not in described
    new.initialise(run_as, time.monotonic() + 60, *([] if has_checksums else ["--no-data-checksums"]))
    command = [
        *(*run_as.prefix, str(binary("pg_upgrade")), f"--username={ROLE}"),
        *(f"--old-bindir={programs}", f"--new-bindir={binary('pg_upgrade').parent}"),
        *(f"--old-datadir={server.data}", f"--new-datadir={new.data}", f"--socketdir={server.make_socket_dir()}"),
    ]
    _run(command, new.home)
    if (server.data / _SETTINGS).exists():
        shutil.copy2(server.data / _SETTINGS, new.data / _SETTINGS)
        fsync(new.data / _SETTINGS)


def _run(command: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=program_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise EmbeddedPostgresError(f"the upgrade failed: {error.filename}: {error.strerror}") from None
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()[-_LINES_SHOWN:]
        raise EmbeddedPostgresError("\n  ".join(["the upgrade failed:", *lines]))
    return done.stdout
