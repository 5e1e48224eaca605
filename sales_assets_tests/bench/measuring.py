"""Measurement of commands and comparison of pairs: alternating runs, medians and spreads of ratios."""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """The cost of a block: wall-clock seconds, CPU seconds (of the process and the server), and peak megabytes."""

    wall: float
    processor: float
    megabytes: float = 0.0


@dataclass(frozen=True)
class Figure:
    """A figure of the benchmark page: `measured` against `against`, two functions that each return a cost."""

    name: str
    aim: str
    measured: Callable[[], Cost]
    against: Callable[[], Cost]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Ratios:
    figure: Figure
    pairs: list[tuple[Cost, Cost]]

    def row(self) -> str:
        wall = [measured.wall / against.wall for measured, against in self.pairs]
        processor = [measured.processor / max(against.processor, 0.01) for measured, against in self.pairs]
        seconds = [statistics.median(cost.wall for cost in costs) for costs in zip(*self.pairs, strict=True)]
        peak = max(measured.megabytes for measured, _ in self.pairs)
        return (
            f"| {self.figure.name} | {self.figure.aim} | {_median_and_range(wall)} | {_median_and_range(processor)} "
            f"| {seconds[0]:.3g} against {seconds[1]:.3g} | {peak:.0f} |"
        )


HEADER = (
    "| figure | aim | wall, median (min to max) | processor, median (min to max) | seconds | peak MB |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


def compare(figure: Figure, rounds: int) -> Ratios:
    """Measure both sides alternately, so that a machine that slows down affects both."""
    pairs = []
    for _ in range(rounds):
        figure.prepare()
        against = figure.against()
        figure.prepare()
        pairs.append((figure.measured(), against))
    return Ratios(figure, pairs)


def _median_and_range(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


@contextmanager
def measured(server_data: Path) -> Iterator[list[Cost]]:
    """Measure a block that runs child processes, including the CPU seconds of the database server on `server_data`."""
    result: list[Cost] = []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = time.process_time()
    server = _server_seconds(server_data)
    started = time.monotonic()
    yield result
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    processor = children + time.process_time() - own + _server_seconds(server_data) - server
    result.append(Cost(wall, processor))


def run(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a command that must succeed; return its peak memory in megabytes, of the largest of its processes."""
    output = subprocess.run(
        [_TIME, "-f", "%M", *command] if Path(_TIME).exists() else command,
        env=environment_of(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if output.returncode:
        tail = f"{output.stdout[-2000:]}\n{output.stderr[-2000:]}"
        raise RuntimeError(f"{' '.join(command)} ended with {output.returncode}:\n{tail}")
    last = output.stderr.strip().splitlines()[-1:] or ["0"]
    return int(last[0]) / 1024 if last[0].isdigit() else 0.0


_TIME = "/usr/bin/time"


def environment_of(chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child process."""
    return {**os.environ, **chosen}


def _server_seconds(data: Path) -> float:
    """Return the CPU seconds of all processes that run in the server's data folder, including ended ones."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if (status.parent / "cwd").readlink() == data:
                fields = status.read_text().rpartition(") ")[2].split()
                total += sum(int(field) for field in fields[11:15])
        except OSError:
            continue  # the process has just ended, or belongs to another user
    return total / os.sysconf("SC_CLK_TCK")
