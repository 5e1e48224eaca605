"""Run PostgreSQL as root, which it refuses, and under a uid without a passwd entry, which initdb refuses.

Chooses a command prefix under which PostgreSQL sees an ordinary user. For root the usual solution, a dedicated system
user, is avoided: it needs an account on the machine and go+rx on every parent folder of the data.
"""

import os
import pwd
import shutil
import subprocess
from contextlib import suppress
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
    """List the command prefixes for this process, best first. A process that is not root needs none."""
    if os.geteuid() != 0:
        return [RunAs((), os.geteuid(), os.getegid())]
    ways = [
        # A user namespace in which root appears as nobody without capabilities; on disk, files belong to root.
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


def named(home: Path) -> tuple[str, ...] | None:
    """Find a command prefix under which this process's uid has a name; None where there is none.

    Containers are run under any uid (OpenShift, `docker run --user`), and initdb looks up its name.
    The server itself does not. `home` must exist: nss_wrapper's files are put there.
    """
    uid, gid = os.geteuid(), os.getegid()
    with suppress(KeyError):
        pwd.getpwuid(uid)
        return ()
    others = [entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid != 0]
    if others:
        # A user namespace in which the uid has a name of the passwd file; on disk, files keep their owner.
        prefix = ("unshare", "--user", f"--map-user={max(others)}")
        if _succeeds(prefix, "id", "-un"):
            return prefix
    passwd, group = home / "nss-passwd", home / "nss-group"
    passwd.write_text(f"sales:x:{uid}:{gid}:sales:/:/bin/false\n", encoding="ascii")
    group.write_text(f"sales:x:{gid}:\n", encoding="ascii")
    preloaded = ("LD_PRELOAD=libnss_wrapper.so", f"NSS_WRAPPER_PASSWD={passwd}", f"NSS_WRAPPER_GROUP={group}")
    if _succeeds(("env", *preloaded), "id", "-un"):
        return ("env", *preloaded)
    passwd.unlink()
    group.unlink()
    return None


def works(way: RunAs, home: Path, program: Path) -> bool:
    """Return whether `way` results in a user that is not root, may enter `home` and may execute `program`.

    Not cached: the same home may be opened under another kernel or container later.
    """
    if not way.prefix:
        return True
    script = 'test "$(id -u)" -ne 0 && cd "$0" && test -x "$1"'
    return _succeeds(way.prefix, "/bin/sh", "-c", script, str(home), str(program))


def _succeeds(prefix: tuple[str, ...], *command: str) -> bool:
    if shutil.which(prefix[0]) is None:
        return False
    done = subprocess.run([*prefix, *command], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0
