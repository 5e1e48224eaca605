"""``python -m sales_assets_tests.bench.mailings``: ratios of the mailings service against its own parts.

Creating the messages of a mailing against a plain INSERT ... SELECT of the same rows; dispatch by a Celery worker
against the same number of concurrent requests from one process; statistics of many messages against counting them. The
dispatch needs RabbitMQ.
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import psycopg

from sales_assets.postgres import migrations
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.postgres.queries import statements
from sales_assets.simulators.sender_api import SenderApi
from sales_assets_tests.services.mailings.worker import PHONES_FROM, TEXT, TOKEN, MailingsEnvironment
from sales_assets_tests.services.partner_orders.fixtures import broker_reachable, until

IN_FLIGHT = 100
_SENDER_SECONDS = 0.005
_LIST = "a list of recipients against a plain INSERT ... SELECT of the same rows"
_DISPATCH = f"dispatch by a worker with {IN_FLIGHT} in flight, 5 ms a send, against bare posts"
_STATISTICS = "statistics of messages against a plain count"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the mailings against their own parts.")
    parser.add_argument("--recipients", type=int, default=100_000, help="of the list")
    parser.add_argument("--sends", type=int, default=10_000, help="messages per round of the dispatch")
    parser.add_argument("--rounds", type=int, default=5, help="pairs per figure")
    parser.add_argument("--large", action="store_true", help="statistics over 10 million messages instead of 1")
    parser.add_argument("--only", default="", help="figures whose name holds this text")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} processors, {options.rounds} rounds\n")
    show(options.recipients, options.sends, options.rounds, options.only, large=options.large)


def show(number: int, sends: int, rounds: int, only: str, *, large: bool = False) -> None:
    """Print the table of the figures whose name contains `only`."""
    selected_figures = {figure for figure in (_LIST, _DISPATCH, _STATISTICS) if only in figure}
    if not selected_figures:
        return
    print("\n| figure | aim | ratio, median (min to max) | a round |\n| --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="sales-assets-bench-") as place:
        server = EmbeddedPostgres(Path(place) / "postgres")
        server.ensure_running()
        try:
            url = server.url("sales")
            migrations.migrate(url)
            if _LIST in selected_figures:
                recipients(url, number, rounds)
            if _DISPATCH in selected_figures:
                if broker_reachable():
                    dispatching(url, Path(place), sends, rounds)
                else:
                    print("RabbitMQ does not answer: the dispatch was left out", file=sys.stderr)
            if _STATISTICS in selected_figures:
                counting(url, 10_000_000 if large else 1_000_000, rounds)
        finally:
            server.stop()


# --- the list -----------------------------------------------------------------------------------------------------


def recipients(url: str, number: int, rounds: int) -> None:
    """Compare the start of a mailing with inserts of the same rows: with all indexes, and with the two keys alone."""
    seconds: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        _clients(connection, number)
        for plain in ("like_message", "bare_message"):
            including = "INCLUDING ALL" if plain == "like_message" else "INCLUDING IDENTITY INCLUDING DEFAULTS"
            connection.execute(f"CREATE TABLE mailings.{plain} (LIKE mailings.message {including})".encode())
        connection.execute(
            "ALTER TABLE mailings.bare_message ADD PRIMARY KEY (message_id), ADD UNIQUE (mailing_id, client_id)"
        )
        connection.execute("VACUUM ANALYZE mailings.client")
        for _ in range(rounds):
            connection.execute("TRUNCATE mailings.message, mailings.like_message, mailings.bare_message")
            connection.execute("CHECKPOINT")
            times = {plain: _timed_insert(connection, plain) for plain in ("like_message", "bare_message")}
            whole = _timed_start(connection)
            seconds.append((whole * 1000, times["like_message"] * 1000))
            bare.append((whole * 1000, times["bare_message"] * 1000))
    name = f"{_LIST}, {number:,} rows"
    _row(f"{name}, into the same indexes", "1.5", seconds, "ms")
    _row(f"{name}, into its two keys alone", "1.5", bare, "ms")


def _clients(connection: psycopg.Connection, number: int) -> None:
    connection.execute("TRUNCATE mailings.client RESTART IDENTITY CASCADE")
    connection.execute(
        "INSERT INTO mailings.client (phone, operator_code, timezone)"
        " SELECT (%s + n)::text, '900', 'UTC' FROM generate_series(1, %s) AS n",
        (PHONES_FROM, number),
    )


def _timed_insert(connection: psycopg.Connection, table: str) -> float:
    start_time = time.perf_counter()
    connection.execute(
        f"INSERT INTO mailings.{table} (mailing_id, client_id, next_attempt_at)"
        " SELECT 1, client_id, now() FROM mailings.client".encode()
    )
    return time.perf_counter() - start_time


def _timed_start(connection: psycopg.Connection) -> float:
    connection.execute(
        "INSERT INTO mailings.mailing (text, start_time, end_time) VALUES (%s, now(), now() + interval '1 hour')",
        (TEXT,),
    )
    statement = statements("mailings/message")
    start_time = time.perf_counter()
    with connection.transaction():
        row = connection.execute(statement["start"]).fetchone()
        assert row is not None
        mailing_id, operator_code, tag = row
        connection.execute(
            statement["write_recipients"],
            {"mailing_id": mailing_id, "operator_code_filter": operator_code, "tag_filter": tag},
        )
    return time.perf_counter() - start_time


# --- the dispatch -------------------------------------------------------------------------------------------------


def dispatching(url: str, place: Path, sends: int, rounds: int) -> None:
    """Measure messages per second, first to last at the sender, against bare requests with the same concurrency."""
    rates: list[tuple[float, float]] = []
    with _sender() as sender_url, psycopg.connect(url, autocommit=True) as connection:
        _clients(connection, sends)
        settings = {"MAILINGS_IN_FLIGHT": str(IN_FLIGHT), "SENDER_RATE": "0"}
        folder = place / "post"
        folder.mkdir()
        mailings_env = MailingsEnvironment(url, SenderApi(), sender_url, folder, settings=settings)
        try:
            mailings_env.worker()
            mailings_env.beat()
            for _ in range(rounds):
                bare = asyncio.run(_bare(sender_url, sends))
                rates.append((_dispatched(mailings_env, sends), bare))
        finally:
            mailings_env.end()
    _row(
        f"dispatch by a worker with {IN_FLIGHT} in flight, 5 ms a send, against bare posts", "0.5", rates, "messages/s"
    )


def _dispatched(mailings_env: MailingsEnvironment, sends: int) -> float:
    """Return messages per second, from the start of the mailing to the last stored result."""
    mailing_id = mailings_env.mailing()
    until(lambda: mailings_env.state(mailing_id) != "scheduled")
    start_time = time.perf_counter()
    until(lambda: mailings_env.statuses(mailing_id)["SENT"] == sends, seconds=300)
    return sends / (time.perf_counter() - start_time)


async def _bare(sender_url: str, sends: int) -> float:
    numbers = iter(range(1, sends + 1))
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def client(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            body = {"id": number, "phone": PHONES_FROM + number, "text": TEXT}
            async with session.post(f"{sender_url}/v1/send/{number}", json=body) as response:
                assert (await response.json())["code"] == 0

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:
        start_time = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(IN_FLIGHT)))
        return sends / (time.perf_counter() - start_time)


@contextmanager
def _sender() -> Iterator[str]:
    """Run the simulator as a separate process."""
    command = [sys.executable, "-m", "sales_assets.cli", "sender-api", "--port", "0", "--slow", str(_SENDER_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("sender API: ").strip()
        finally:
            process.terminate()


# --- the statistics -----------------------------------------------------------------------------------------------


def counting(url: str, messages: int, rounds: int) -> None:
    """Time the statistics of all mailings against counting the rows."""
    times: list[tuple[float, float]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE mailings.mailing, mailings.message, mailings.message_count")
        connection.execute(
            "INSERT INTO mailings.mailing (text, start_time, end_time, state, started_at)"
            " SELECT 'x', now(), now() + interval '1 day', 'running', now() FROM generate_series(1, 100)"
        )
        print(f"writing {messages:,} messages", file=sys.stderr)
        connection.execute(
            "INSERT INTO mailings.message (mailing_id, client_id, status, next_attempt_at, finished_at)"
            " SELECT mailing_id, n, CASE n %% 4 WHEN 0 THEN 'Pending' WHEN 1 THEN 'FAILED' WHEN 2 THEN 'TIMEOUT'"
            " ELSE 'SENT' END, now(), CASE WHEN n %% 4 <> 0 THEN now() END"
            " FROM mailings.mailing, generate_series(1, %s) AS n",
            (messages // 100,),
        )
        connection.execute("VACUUM ANALYZE mailings.message")
        overall = statements("mailings/statistics")["overall"]
        plain = 'SELECT status, count(*) FROM mailings.message GROUP BY status ORDER BY status COLLATE "C"'
        for _ in range(rounds):
            start_time = time.perf_counter()
            counts = connection.execute(overall).fetchall()
            middle = time.perf_counter()
            assert connection.execute(plain.encode()).fetchall() == counts
            times.append(((middle - start_time) * 1000, (time.perf_counter() - middle) * 1000))
    _row(f"{_STATISTICS}, {messages:,} rows", "under 100 ms", times, "ms")


def _row(figure: str, aim: str, pairs: list[tuple[float, float]], unit: str) -> None:
    ratios = [one / other for one, other in pairs]
    one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"| {figure} | {aim} | {statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g}) "
        f"| {one:.4g} against {other:.4g} {unit} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
