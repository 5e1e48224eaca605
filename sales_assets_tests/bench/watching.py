"""Benchmarks of waiting times: a backfill of a year from the UI, a sensor tick, the demo on a new machine."""

import datetime as dt
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests

from sales_assets.defs.load_daily_sales import load_daily_sales
from sales_assets.deploy.ui import ui_running
from sales_assets_tests.bench.loading import Bench, Data, years
from sales_assets_tests.bench.measuring import Cost, Figure, environment_of, measured, run

_TICKS = 20
_PROJECT = Path(__file__).resolve().parent.parent.parent
_LAUNCH = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_STATUS = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status } ... on PythonError { message } } }"""


def tick_figures(large: Bench, small: Bench) -> Iterator[tuple[Data, Figure]]:
    data, first = years(large)
    last = first + dt.timedelta(days=1094)
    for bench, days in ((large, 1095), (small, 10)):
        bench.fresh()
        with bench.api(data()):
            bench.load(last - dt.timedelta(days=days - 1), days)
    yield (
        data,
        Figure(
            "a tick of the sensor with nothing new, at 1 095 loaded days against 10",
            "1.2",
            lambda: _ticks(large),
            lambda: _ticks(small),
        ),
    )


def _ticks(bench: Bench) -> Cost:
    command = [sys.executable, "-m", f"{__package__}.ticks", str(_TICKS)]
    response = subprocess.run(
        command, env=environment_of(bench.environment), capture_output=True, text=True, check=True
    )
    wall, processor = map(float, response.stdout.split())
    return Cost(wall / _TICKS, processor / _TICKS)


def backfill_figures(bench: Bench) -> Iterator[tuple[Data, Figure]]:
    """Yield the figure of a year's backfill through the daemon; the increment of one day has no header."""
    whole, first = years(bench)

    def data() -> Path:
        source = whole()
        folder = source.with_name(f"{source.name}-broken")
        if not folder.exists():
            shutil.copytree(source, folder)
            broken = first + dt.timedelta(days=100)
            (folder / "inc" / broken.isoformat() / "user_orders_log_inc.csv").write_text("no header\n1,2\n")
        return folder

    yield (
        data,
        Figure(
            "365 small days, one of them broken, a backfill through the daemon, against the same assets without work",
            "1.5",
            lambda: _backfill(bench, first),
            lambda: bench.bare(first, 365),
            bench.fresh,
        ),
    )


def _backfill(bench: Bench, first: dt.date) -> Cost:
    bench.load(first - dt.timedelta(days=1), 1)  # loads the report, whose id is needed to request increments
    days = [(first + dt.timedelta(days=n)).isoformat() for n in range(365)]
    with bench.as_environment(), ui_running(_free_port(), bench.home / "dagster") as ui:
        with measured(bench.server.data) as cost:
            assets = [{"path": list(key.path)} for key in sorted(load_daily_sales.keys)]
            params = {"partitionNames": days, "assetSelection": assets, "title": "bench"}
            response = _graphql(ui.url, _LAUNCH, params=params)["launchPartitionBackfill"]
            if response["__typename"] != "LaunchBackfillSuccess":
                raise RuntimeError(f"the backfill was not launched: {response}")
            _wait(
                lambda: _ended(
                    _graphql(ui.url, _STATUS, id=response["backfillId"])["partitionBackfillOrError"]["status"]
                )
            )
        _wait_for_loaded(bench, 364)
    return cost[0]


def _graphql(url: str, query: str, **variables: object) -> dict[str, Any]:
    response = requests.post(f"{url}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
    if response.get("errors"):
        raise RuntimeError(f"the UI answered {response['errors']}")
    data: dict[str, Any] = response["data"]
    return data


def _ended(status: str) -> bool:
    return status in ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")


def _wait(done: Callable[[], bool], seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {seconds} s")
        time.sleep(0.25)


def _wait_for_loaded(bench: Bench, days: int) -> None:
    loaded = bench.count("SELECT count(DISTINCT date_id) FROM mart.f_sales") - 1
    if loaded != days:
        raise RuntimeError(f"{loaded} days were loaded, not {days}")


def demo_figures(bench: Bench) -> Iterator[tuple[Data, Figure]]:
    """Yield the figure of the demo in a copy of the project, with nothing installed, in each round."""
    data, _first = years(bench)
    yield (
        data,
        Figure(
            "`make demo DEMO_ARGS=--once` from nothing, against `make install`",
            "60 s",
            lambda: _make("demo", "DEMO_ARGS=--once"),
            lambda: _make("install"),
        ),
    )


def _make(*arguments: str) -> Cost:
    with tempfile.TemporaryDirectory(prefix="sales-assets-bench-") as place:
        ignored = shutil.ignore_patterns(".venv", ".sales_assets", ".git", "__pycache__", ".*_cache", "*.egg-info")
        project = Path(shutil.copytree(_PROJECT, Path(place) / "project", ignore=ignored))
        with measured(project) as cost:
            megabytes = run(["make", "-C", str(project), *arguments], {"VIRTUAL_ENV": ""})
    return replace(cost[0], megabytes=megabytes)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
