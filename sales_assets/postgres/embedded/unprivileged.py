"""How a process that is root runs PostgreSQL, which refuses to run as root.

Belongs here: choosing a command prefix under which PostgreSQL sees an ordinary user. Does not belong here:
starting the server. The usual answer, an operating system user of its own, is avoided: it needs an account on
the machine and go+rx on every parent folder of the data, also on those that are private for a reason.
"""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_NOBODY = 65534


@dataclass(frozen=True)
class RunAs:
    """A command prefix, and the owner (as seen on disk) that the data folder must have under it."""

    prefix: tuple[str, ...]
    uid: int
    gid: int


def candidates() -> list[RunAs]:
    """The ways for this process to run PostgreSQL, best first. One that is not root has one: as itself."""
    if os.geteuid() != 0:
        return [RunAs((), os.geteuid(), os.getegid())]
    ways = [
        # A user namespace in which root is called nobody and has no capabilities: on disk all stays root's.
        RunAs(("unshare", "--user", f"--map-user={_NOBODY}"), 0, 0),
    ]
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return ways
    # Where namespaces are forbidden (the default of Docker): the real nobody, with the one capability that
    # lets it through private parent folders. It owns the data, which is why this comes second.
    setpriv = (
        "setpriv",
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all,+dac_override",
        "--ambient-caps=-all,+dac_override",
    )
    return [*ways, RunAs(setpriv, nobody.pw_uid, nobody.pw_gid)]


def works(way: RunAs, home: Path, program: Path) -> bool:
    """Whether `way` leads to a user that is not root, may enter `home` and may execute `program`.

    Asked each time and not remembered: the same home may be opened by another kernel or container tomorrow.
    """
    if not way.prefix:
        return True
    if shutil.which(way.prefix[0]) is None:
        return False
    script = 'test "$(id -u)" -ne 0 && cd "$0" && test -x "$1"'
    probe = [*way.prefix, "/bin/sh", "-c", script, str(home), str(program)]
    done = subprocess.run(probe, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0
