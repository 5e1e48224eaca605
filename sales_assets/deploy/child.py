"""Run a module like ``python -m``, and exit when the parent process, which holds the other end of stdin, ends.

For children that must not outlive their parent, even a parent killed by `kill -9`. Unlike Linux's PR_SET_PDEATHSIG, a
pipe works on every operating system, and the child's own processes end as well.
"""

import os
import runpy
import signal
import sys
import threading
import time

_SHUTDOWN_SECONDS = 20


def _end_with_parent() -> None:
    """Wait for the end of stdin, then interrupt this process group; kill it if it does not end."""
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGINT)
    time.sleep(_SHUTDOWN_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
