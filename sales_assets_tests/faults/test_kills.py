"""`kill -9` of a load or an erasure: each day is entirely old or entirely new, and one more run repairs the rest.

These tests kill at a few moments; `make torture` kills at a hundred and more.
"""

import datetime as dt
import os
from collections.abc import Iterable

import dagster as dg
import psycopg

from sales_assets.defs.automation.new_increments import new_increments
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.raw_files import RawFiles
from sales_assets.resources.report_api import ReportApi
from sales_assets.schemas.calendar import date_id
from sales_assets.settings import settings
from sales_assets_tests.builders import Order
from sales_assets_tests.faults.subprocess_targets import KillScenario, TargetProcess, forget, kill_during_load, moments
from sales_assets_tests.faults.test_servers import wait_for_waiters
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.pipeline.test_concurrent_loads import engine
from sales_assets_tests.pipeline.test_forget import DAY, LINEAGE, SECRET, SUMS, Person, person
from sales_assets_tests.services.partner_orders.fixtures import until

__all__ = ["person"]


def test_a_load_killed_at_any_moment_leaves_whole_days_and_is_repaired_by_the_next(scenario: KillScenario) -> None:
    killed = [kill_during_load(scenario, moment) for moment in moments(seed=7, number=4, points=scenario.points)]
    assert sum(killed) >= 2, "moments that come too late show nothing"


def erase_over_kills(person: Person, kill_at: Iterable[int | str]) -> int:
    """Kill one `sales-assets forget` after another, each at a later point, until one completes.

    Each run continues the work of the killed ones. Return the number of kills.
    """
    person.shop.load(DAY)
    person.use_services()
    sums, lineage = person.query(SUMS), person.query(LINEAGE)
    environment = os.environ | {"SALES_ERASURE_SECRET": SECRET}
    for killed, point in enumerate(kill_at):
        with TargetProcess(environment, point, target=forget) as target_process:
            is_done = target_process.finish()
        assert [person.query(SUMS), person.query(LINEAGE)] == [sums, lineage], f"killed at point {point}"
        for path, sha256 in person.query("SELECT path, sha256 FROM raw.fetch"):
            for _ in RawFiles().verified_chunks(path, sha256):
                pass
        if is_done:
            assert target_process.failures == []
            assert person.found() == []
            stored = {path.removesuffix(".json") for path in RawFiles().paths()}
            assert stored == {path for (path,) in person.query("SELECT path FROM raw.fetch")}
            return killed
    raise AssertionError("no erasure came to its end")


def test_an_erasure_killed_at_any_moment_is_completed_by_the_next(person: Person) -> None:
    """The kills happen while tables change, before the new raw file is renamed, and before the old one is deleted."""
    assert erase_over_kills(person, [23, "replace", "remove", 1_000_000]) == 3


def test_parsed_but_unstaged_days_are_requested_again_and_listed_by_a_check(shop: Shop, today: dt.date) -> None:
    """Parse results of files with rejected rows are committed before their days are staged; one day has older rows."""
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    old, new = (today - dt.timedelta(days=age) for age in (3, 2))
    shop.reports.increment(str(old), [Order("old", day=str(old))])
    shop.fetch_report()
    engine(str(old), run_id="before")
    for day in (old, new):
        shop.reports.increment(str(day), [Order("new", day=str(day)), Order("bad", day=str(day), quantity="two")])
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE staging.user_orders_log IN SHARE MODE")
        with TargetProcess(os.environ, days=(str(old), str(new))) as target_process:
            wait_for_waiters(url, count=1, seconds=240)
            target_process.kill()
        holder.rollback()
    held = "SELECT FROM pg_locks JOIN pg_database AS d ON d.oid = database AND datname = current_database()"
    until(lambda: not shop.query(f"{held} WHERE locktype = 'advisory'"))
    parsed = "SELECT count(*) FROM staging.fetch_reading JOIN raw.fetch USING (fetch_id) WHERE file = 'user_orders_log'"
    assert shop.query(parsed) == [(3,)]
    assert [name for name, _ in shop.sales()] == ["old"]

    tick = new_increments(
        dg.build_sensor_context(instance=shop.instance), warehouse=Warehouse(), report_api=ReportApi()
    )
    assert isinstance(tick, dg.SensorResult)
    assert [request.partition_key for request in tick.run_requests or []] == [str(old), str(new)]
    check = statements("checks/asked_days_done")["offending"]
    with psycopg.connect(url) as connection:
        named = connection.execute(check, {"first_date_id": date_id(old), "last_date_id": date_id(new)}).fetchall()
    cause = "user_orders_log of the increment: it was parsed, but not staged"
    assert named == [(date_id(day), 1, cause) for day in (old, new)]

    engine(str(old), str(new), run_id="after")
    assert [name for name, _ in shop.sales()] == ["new", "new"]
