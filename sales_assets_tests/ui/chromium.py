"""Find a headless Chromium for the UI tests: one on the PATH, otherwise Playwright's bundled browser.

Run as a program, this module prints the browser's version, or fails with the list of attempts; ``.ci/run`` runs it.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Playwright itself disables the sandbox, which root can't use. These options stop Chromium's background requests.
_ARGUMENTS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowserError(Exception):
    """No Chromium could be started; the message lists the attempts."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser. Raises `NoBrowserError`.

    Each candidate is started: a program on the PATH may be a wrapper for a snap that can't run here.
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
