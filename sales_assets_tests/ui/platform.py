"""The platform as users run it: processes of the command, with a separate SALES_HOME and a folder of reports."""

import datetime as dt
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.settings import OUR_PREFIXES
from sales_assets_tests.builders import Order, ReportFolderBuilder

COMMAND = Path(sys.executable).with_name("sales-assets")
_SHUTDOWN_SECONDS = 60
# Age in days of the increment that has an invalid row next to its valid ones.
BROKEN_DAY = 3


@dataclass(frozen=True)
class Platform:
    """A running platform. Days are given by their age: `day(1)` is yesterday, the last day with an increment.

    `environment` has the variables of its processes, for further commands with the same home.
    """

    url: str
    home: Path
    today: dt.date
    environment: dict[str, str]

    def day(self, age: int) -> str:
        return (self.today - dt.timedelta(days=age)).isoformat()

    def load(self, age: int) -> None:
        """Load a day with the command, without the daemon."""
        days = ["--from", self.day(age), "--to", self.day(age)]
        subprocess.run([COMMAND, "load", *days], env=self.environment, check=True, stdin=subprocess.DEVNULL)

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Run and commit one statement on the warehouse; return its rows, if any."""
        server = EmbeddedPostgres(self.home / "postgres")
        with psycopg.connect(server.url("sales")) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def sales(self, *ages: int) -> list[tuple[object, ...]]:
        """Return (date_id, rows, net amount) of the days in the mart, oldest first."""
        days = [int(self.day(age).replace("-", "")) for age in ages]
        return self.query(
            "SELECT date_id, count(*), sum(amount) FROM mart.f_sales WHERE date_id = ANY (%s) GROUP BY 1 ORDER BY 1",
            days,
        )


@contextmanager
def running_platform(folder: Path, **settings: str) -> Iterator[Platform]:
    """Run a report API simulator, embedded PostgreSQL and `sales-assets dev`, with a report fetched and day 20 loaded.

    The sale of each day amounts to 200 plus its age; days with an increment (1 to 7 days ago) also have a refund of 50.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith((*OUR_PREFIXES, "DAGSTER"))}
    platform = Platform(f"http://127.0.0.1:{free_port()}", folder / "home", dt.datetime.now(dt.UTC).date(), environment)
    reports = ReportFolderBuilder(folder / "reports")
    reports.report([_sale(platform, age) for age in range(8, 31)])
    for age in range(1, 8):
        refund = _sale(platform, age).but(uniq_id=f"{age:x}f".zfill(32), amount="50", status="refunded")
        broken = [_sale(platform, age).but(uniq_id=f"{age:x}b".zfill(32), status="lost")] if age == BROKEN_DAY else []
        reports.increment(platform.day(age), [_sale(platform, age), refund, *broken])
    environment |= {"SALES_HOME": str(platform.home), "REPORT_API_KEY": "a-key-of-the-tests", **settings}
    with ExitStack() as stack:
        serve = ["report-api", "--data", str(reports.folder), "--port", "0", "--report-seconds", "0"]
        environment["REPORT_API_URL"] = stack.enter_context(
            command_running(serve, environment, folder / "report-api.log")
        )
        stack.callback(EmbeddedPostgres(platform.home / "postgres").stop)
        load = ["load", "--report", "--from", platform.day(20), "--to", platform.day(20)]
        subprocess.run([COMMAND, *load], env=environment, check=True, stdin=subprocess.DEVNULL)
        dev = ["dev", "--port", platform.url.rpartition(":")[2]]
        stack.enter_context(command_running(dev, environment, folder / "dev.log"))
        yield platform


def _sale(platform: Platform, age: int) -> Order:
    return Order(f"{age:x}0".zfill(32), day=platform.day(age), amount=str(200 + age))


@contextmanager
def command_running(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[str]:
    """Run a command until the block ends; yield the URL that it prints once it accepts requests."""
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [COMMAND, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            urls = [word for word in words if word.startswith("http://")]
            assert urls, f"{arguments[0]} did not start: {log.read_text(encoding='utf-8')}"
            yield urls[0]
        finally:
            process.terminate()
            try:
                process.wait(_SHUTDOWN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
