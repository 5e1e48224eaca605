"""Mutate the code, run the tests against each mutant, and report the mutants that pass all tests.

mutmut does the work, configured by `[tool.mutmut]` in pyproject.toml. This command adds a PostgreSQL server shared by
all test processes, and compares the surviving mutants with `survivors.md`.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from mutmut.mutation.data import SourceFileMutationData
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets_tests.conftest import SHARED_SERVER, prepare
from sales_assets_tests.mutants.plugin import TESTS, UNIT

ROOT = Path("mutants")
KNOWN = Path(__file__).with_name("survivors.md")
COLUMNS = ("mutants", "mypy", "killed", "known", "new", "no tests", "not run")
# Outcomes of mutmut that have other names in the report.
OUTCOMES = {
    "caught by type check": "mypy",
    "survived": "new",
    "timeout": "killed",
    "segfault": "killed",
    "suspicious": "killed",
    "not checked": "not run",
}

# Path, function and changed lines of a mutant. mutmut's own numbers change with each edit of the function.
Change = tuple[str, str, str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help="modules by name or path, default: all")
    parser.add_argument("--report", action="store_true", help="run nothing; report what the last runs have found")
    parser.add_argument("--unit", action="store_true", help="only tests that need no server")
    parser.add_argument(
        "--tests", action="append", default=[], metavar="PATH", help="only this test file or folder, can be repeated"
    )
    parser.add_argument("--processes", type=int, default=1, help="mutants at a time, default: 1")
    parser.add_argument("--sample", type=int, metavar="N", help="only N random mutants of each module")
    parser.add_argument("--seed", type=int, default=1, help="which ones --sample draws, default: 1")
    arguments = parser.parse_args()
    if not arguments.report:
        patterns = [mutants_of(module) for module in arguments.modules]
        if arguments.sample is not None:
            patterns = sample(patterns or ["*"], arguments.sample, arguments.seed)
            if not patterns:
                parser.error("no mutants to draw from")
        if code := run(patterns, arguments.processes, arguments.tests, unit=arguments.unit):
            return code
    return report()


def mutants_of(module: str) -> str:
    """Return the pattern of mutmut's mutant names for a module or package, given by name or path."""
    return module.removesuffix("/").removesuffix(".py").replace("/", ".") + ".*"


def sample(patterns: Sequence[str], count: int, seed: int) -> list[str]:
    """Draw random mutants of each module that matches a pattern; the same code and seed give the same mutants."""
    from mutmut.mutation.file_mutation import mutate_file_contents  # imported here: libcst takes half a second

    drawn: list[str] = []
    for path in sorted(walk_mutatable_files()):
        if any(fnmatch(get_mutant_name(path, ""), pattern) for pattern in patterns):
            mutants = mutate_file_contents(str(path), path.read_text(encoding="utf-8")).mutant_names
            chosen = random.Random(f"{seed} {path}").sample(sorted(mutants), min(count, len(mutants)))
            drawn += [get_mutant_name(path, name) for name in chosen]
    return drawn


def run(patterns: Sequence[str], processes: int, tests: Sequence[str], *, unit: bool) -> int:
    """Run mutmut, with a database server for all test processes unless only unit tests run."""
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    if tests:
        environment[TESTS] = os.pathsep.join(tests)
    command = ["mutmut", "run", "--max-children", str(processes), *patterns]
    if unit:
        return subprocess.run(command, env=environment | {UNIT: "1"}, check=False).returncode
    # Without this handler, a killed command would leave the server running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        server = EmbeddedPostgres(Path(folder))
        prepare(server)
        try:
            return subprocess.run(command, env=environment | {SHARED_SERVER: folder}, check=False).returncode
        finally:
            server.stop()


def report() -> int:
    """Print the counts of each module and the survivors not explained in survivors.md; return 1 if there are any."""
    known = explained(KNOWN.read_text(encoding="utf-8"))
    unknown: list[tuple[str, Change]] = []
    total = Counter[str]()
    print(f"\n{'module':52}" + "".join(f"{column:>9}" for column in COLUMNS))
    for meta in sorted(ROOT.rglob("*.meta")):
        path = meta.relative_to(ROOT).with_suffix("")
        data = SourceFileMutationData(path=path)
        data.load()
        counts = Counter[str]()
        for name, code in data.exit_code_by_key.items():
            outcome = status_by_exit_code[code]
            outcome = OUTCOMES.get(outcome, outcome)
            if outcome == "new":
                change = change_of(path, name)
                if change in known:
                    outcome = "known"
                else:
                    unknown.append((name, change))
            counts[outcome] += 1
        if counts:
            print(figures(str(path), counts))
        total += counts
    print(figures("all", total))
    for name, (path_name, function, difference) in unknown:
        print(f"\n# {name}\n{path_name}: {function}\n{difference}")
    return 1 if unknown else 0


def figures(title: str, counts: Counter[str]) -> str:
    """Format a line of the report: the counts, and the share of killed mutants among the tested ones."""
    tested = sum(counts[outcome] for outcome in ("killed", "known", "new", "no tests"))
    numbers = (counts.total(), *(counts[column] for column in COLUMNS[1:]))
    share = f"{counts['killed'] / tested:9.1%}" if tested else ""
    return f"{title:52}" + "".join(f"{number:9}" for number in numbers) + share


def change_of(path: Path, name: str) -> Change:
    """Return the path, function and changed lines of a mutant."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # imported here, because of libcst

    function = re.sub(r"^x_|^xǁ", "", name.rpartition(".")[2].partition("__mutmut_")[0]).replace("ǁ", ".")
    difference = get_diff_for_mutant(name, path=path).splitlines()[2:]
    return str(path), function, "\n".join(f"{text[0]} {text[1:].strip()}" for text in difference if text[0] in "-+")


def explained(text: str) -> set[Change]:
    """Parse survivors.md: each heading is a path, followed by diffs with the function after `@@`."""
    found = set()
    path = ""
    for heading, block in re.findall(r"^## `([^`\n]+)`$|^```diff\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        path = heading or path
        for hunk in re.split(r"^@@ ", block, flags=re.MULTILINE)[1:]:
            function, _, difference = hunk.strip().partition("\n")
            found.add((path, function, difference))
    return found


if __name__ == "__main__":
    sys.exit(main())
