"""Find a headless Chromium for the UI tests: one on the PATH, else Playwright's own.

Run as a program it prints the one that works, or fails with what was tried; ``.ci/run`` runs it.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Playwright itself switches the sandbox off, which root can't have. These keep Chromium from calling home.
_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowserError(Exception):
    """No Chromium could be started; the message says what was tried."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser. Raises `NoBrowserError`.

    Each candidate is started: what lies on the PATH may be a pointer to a snap that can't run here.
    """
    candidates = [path for name in _NAMES if (path := shutil.which(name))]
    tried = []
    with sync_playwright() as playwright:
        for path in [*candidates, None]:
            try:
                browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS, timeout=60_000)
            except Error as error:
                tried.append(f"{path or 'of Playwright'}: {error.message.strip().splitlines()[0]}")
                continue
            with browser:
                yield browser
            return
    raise NoBrowserError("no Chromium can be started; tried " + "; ".join(tried))


def _main() -> None:
    try:
        with chromium() as browser:
            sys.stdout.write(f"Chromium {browser.version} can be started\n")
    except NoBrowserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
