"""Figures of the peers: each measured alternately with `\\copy` of the same file, and only if its mart equals ours."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import psycopg

from sales_assets.simulators.report_api.generate import Shop
from sales_assets_tests.bench.loading import FIRST, Bench, Data
from sales_assets_tests.bench.measuring import Cost, Figure, measured
from sales_assets_tests.bench.peers.environment import NoEnvironmentError
from sales_assets_tests.bench.peers.running import Peer, contents, dlt_and_dbt, pandas, parse_project

_DATABASE = "peers"
_DAYS = 20


def peer_figures(bench: Bench, is_selected: Callable[[str], bool]) -> Iterator[tuple[Data, Figure]]:
    """Yield (files that the simulator serves to our own load, figure) for the selected peers.

    Each peer is measured twice: against the lower bound, and our load against the peer. The former depends on the load
    of the disk.
    """
    dlt_job, pandas_job = _SameJob(bench, 1_000_000), _SameJob(bench, 100_000)  # pandas takes minutes for a million
    for job, size, name, peer in (
        (dlt_job, "1 M", "dlt + dbt", dlt_and_dbt),
        (pandas_job, "100 k", "pandas `to_sql` + SQL", pandas),
    ):
        measure = partial(job.measure, peer)
        figures = [
            Figure(f"{name}, {size} distinct lines from a file, against `\\copy`", "", measure, job.copy, job.fresh),
            Figure(f"{size} distinct lines, `sales-assets load` against {name}", "1", job.load, measure, job.fresh),
        ]
        chosen = [figure for figure in figures if is_selected(figure.name)]
        try:
            if chosen and job is dlt_job:
                job.get_ready()
        except NoEnvironmentError as error:
            print(f"DLT AND DBT ARE NOT MEASURED: {error}", file=sys.stderr)
        else:
            yield from ((job.data, figure) for figure in chosen)


class _SameJob:
    """An order log that peers load into a separate database on the same server."""

    def __init__(self, bench: Bench, lines: int) -> None:
        self._bench = bench
        self._shop = Shop(seed=1, lines_per_day=lines // _DAYS, repeats=0.0)
        self._folder = bench.folder / "peers"

    def data(self) -> Path:
        return self._bench.data(self._shop, _DAYS)

    @property
    def _url(self) -> str:
        return self._bench.server.url(_DATABASE)

    def get_ready(self) -> None:
        """Let dbt parse its project, which is not part of a daily run. Raises `NoEnvironmentError`."""
        parse_project(self._url, self._folder)

    def fresh(self) -> None:
        """Create empty databases, and run a checkpoint."""
        assert self._ours  # computed before the first round
        self._bench.fresh()
        with psycopg.connect(self._bench.server.url("dagster"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {_DATABASE}")
        self._bench.rest()

    def copy(self) -> Cost:
        return self._bench.copy(self.data())

    def load(self) -> Cost:
        """Run our own load: over HTTP, with raw files, quarantine and lineage."""
        return self._bench.load(FIRST, _DAYS)

    def measure(self, peer: Peer) -> Cost:
        """Run a peer, and check that its mart equals ours: a cost of other work would be meaningless."""
        file = self.data() / "main" / "user_orders_log.csv"
        with measured(self._bench.server.data) as cost:
            megabytes = peer([file], self._url, self._folder)
        if contents(self._url) != self._ours:
            raise RuntimeError(f"the mart of {peer.__name__} differs from ours")
        return replace(cost[0], megabytes=megabytes)

    @cached_property
    def _ours(self) -> list[list[tuple[object, ...]]]:
        self._bench.fresh()
        self.load()
        return contents(self._bench.url)
