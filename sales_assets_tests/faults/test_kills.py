"""`kill -9` of the process that loads: no day is half there, and one more run makes it right.

A few moments here; `make torture` has a hundred and more.
"""

import datetime as dt
import os

import dagster as dg
import psycopg

from sales_assets.defs.automation.new_increments import new_increments
from sales_assets.postgres.queries import statements
from sales_assets.postgres.warehouse import Warehouse
from sales_assets.resources.report_api import ReportApi
from sales_assets.schemas.calendar import date_id
from sales_assets.settings import settings
from sales_assets_tests.builders import Order
from sales_assets_tests.faults.subprocess_targets import Victim, World, moments, suffer
from sales_assets_tests.faults.test_servers import wait_for_waiters
from sales_assets_tests.fixtures import Shop
from sales_assets_tests.pipeline.test_concurrent_loads import engine
from sales_assets_tests.services.partner_orders.fixtures import until


def test_a_load_killed_anywhere_leaves_whole_days_and_is_healed_by_one_more(world: World) -> None:
    killed = [suffer(world, moment) for moment in moments(seed=7, number=4, points=world.points)]
    assert sum(killed) >= 2, "moments that come too late show nothing"


def test_days_parsed_and_not_staged_are_asked_for_again_and_named_by_a_check(shop: Shop) -> None:
    """The parse result of a file with rejected rows is committed before its day. A new day, and one delivered again."""
    url = settings().warehouse_url.get_secret_value()  # type: ignore[union-attr]
    today = dt.datetime.now(dt.UTC).date()
    old, new = (today - dt.timedelta(days=age) for age in (3, 2))
    shop.reports.increment(str(old), [Order("old", day=str(old))])
    shop.fetch_report()
    engine(str(old), run_id="before")
    for day in (old, new):
        shop.reports.increment(str(day), [Order("new", day=str(day)), Order("bad", day=str(day), quantity="two")])
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE staging.user_orders_log IN SHARE MODE")
        with Victim(os.environ, days=(str(old), str(new))) as victim:
            wait_for_waiters(url, count=1, seconds=240)
            victim.kill()
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
