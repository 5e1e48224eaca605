"""Build the documentation, by default into ``build/site/html``. A warning, such as a broken link, fails the build."""

import argparse
import subprocess
import sys
from pathlib import Path

from sales_assets_tests.site.pages import ROOT, write_pages

CONFIG = ROOT / "zensical.toml"
FOLDER = ROOT / "build" / "site"
# The configuration in the checkout has the path of docs/, so that `zensical serve` shows changes of the pages.
_FOLDERS = {'docs_dir = "docs"': 'docs_dir = "pages"', 'site_dir = "build/site/html"': 'site_dir = "html"'}


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site into the subfolder ``html`` of a folder.

    Returns:
        The process of Zensical. Its exit code is not 0 if there was a warning.
    """
    write_pages(folder / "pages")
    config = CONFIG.read_text(encoding="utf-8")
    for ours, theirs in _FOLDERS.items():
        assert ours in config, f"{CONFIG.name} lacks {ours}"
        config = config.replace(ours, theirs)
    (folder / CONFIG.name).write_text(config, encoding="utf-8")
    # Run as a module, so that the checkout is on the path, including the code that inserts the diagrams.
    config_file = str(folder / CONFIG.name)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", config_file]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def main() -> int:
    """Build the site and print the output of Zensical."""
    parser = argparse.ArgumentParser(prog="python -m sales_assets_tests.site", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder for the pages and the site")
    folder = parser.parse_args().folder.resolve()
    done = build(folder)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        sys.stdout.write(f"{folder / 'html' / 'index.html'}\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
