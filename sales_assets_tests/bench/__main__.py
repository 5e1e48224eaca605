"""``python -m sales_assets_tests.bench``: measure, print a table. ``make bench`` and ``make bench-large`` run it."""

import argparse
import datetime as dt
import itertools
import os
import platform
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sales_assets.settings import OUR_PREFIXES
from sales_assets_tests.bench import mailings, partner_orders
from sales_assets_tests.bench.loading import Bench, Data, figures, growth_figures, long_range_figures, small_figures
from sales_assets_tests.bench.measuring import HEADER, Figure, compare
from sales_assets_tests.bench.peers.figures import peer_figures
from sales_assets_tests.bench.watching import backfill_figures, demo_figures, tick_figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measure the pipeline and the services against their floors and against themselves."
    )
    parser.add_argument("--large", action="store_true", help="the figures of 10 million lines")
    parser.add_argument("--rounds", type=int, default=5, help="pairs per figure")
    parser.add_argument("--only", default="", help="figures whose name holds this text")
    options = parser.parse_args()
    lines = 10_000_000 if options.large else 1_000_000
    for name in list(os.environ):
        if name.startswith((*OUR_PREFIXES, "DAGSTER_")):
            del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="sales-assets-bench-") as place:
        bench, other = Bench(Path(place) / "one"), Bench(Path(place) / "two")
        try:
            groups = [figures(bench, lines)]
            if not options.large:
                groups += [
                    peer_figures(bench, partial(_is_selected, only=options.only)),
                    small_figures(bench),
                    long_range_figures(bench),
                    backfill_figures(bench),
                    demo_figures(bench),
                ]
            machine = f"{platform.machine()}, {os.cpu_count()} processors"
            print(f"{dt.datetime.now(dt.UTC).date()}, {machine}, {options.rounds} rounds\n")
            print(HEADER, flush=True)
            if not options.large and _is_selected("a tick of the sensor", options.only):
                groups.append(tick_figures(bench, other))
            for data, figure in itertools.chain(*groups, _growth(bench, other, lines, options.only)):
                if options.only in figure.name:
                    with bench.api(data()):
                        print(compare(figure, options.rounds).row(), flush=True)
        finally:
            bench.server.stop()
            other.server.stop()
    if not options.large:
        partner_orders.show(2000, options.rounds, options.only)
    mailings.show(100_000, 10_000, options.rounds, options.only, large=options.large)


def _growth(bench: Bench, other: Bench, lines: int, only: str) -> Iterator[tuple[Data, Figure]]:
    return growth_figures(bench, other, lines) if _is_selected("a day's reload beside", only) else iter(())


def _is_selected(name: str, only: str) -> bool:
    """Return whether `only` selects a figure. Some figures need loads as preparation, which others skip."""
    return not only or only in name


if __name__ == "__main__":
    main()
