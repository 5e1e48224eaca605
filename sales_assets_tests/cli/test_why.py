"""`sales-assets why`: the selected file of a day, and the reasons why the others were not selected."""

import re

from sales_assets_tests.builders import Order
from sales_assets_tests.cli.conftest import Run
from sales_assets_tests.cli.processes import table
from sales_assets_tests.fixtures import Shop

DAY = "2024-10-01"


def test_why_explains_the_selection(run_with_warehouse: Run, shop: Shop) -> None:
    shop.reports.report([Order("r", day=DAY), Order("q", day="2024-09-30")])
    shop.reports.increment(
        DAY, [Order("a", day=DAY), Order("b", day=DAY, status="refunded", amount="50"), Order("z", amount="[/bold]")]
    )
    shop.load(DAY)
    shop.reports.increment(DAY, [Order("c", day=DAY)], statuses=False)
    shop.load(DAY)
    shop.reports.increment(DAY, None, user_orders_log="no header\n")
    shop.fail_to_load(DAY)
    shop.reports.without_increment(DAY)
    shop.load(DAY)

    done = run_with_warehouse("why", DAY)
    assert done.returncode == 0, done.stderr
    assert [row[:5] for row in table(done.stdout, "source", "status")] == [
        ["report_api", "shipped", "1", "2.00", "200.00"],
        ["report_api", "refunded", "1", "-2.00", "-50.00"],
    ]
    fetches = table(done.stdout, "fetch", "kind")
    best = fetches[0][0]
    assert [(row[1], row[2], row[6].partition(":")[0]) for row in fetches] == [
        ("increment", "yes", "selected"),
        ("increment", "no", f"has no statuses, unlike fetch {best}"),
        ("report", "no", f"has no statuses, unlike fetch {best}"),
        ("increment", "no", "never selected"),
    ]
    assert fetches[0][3:6] == ["2", "0", "1"]
    assert "[/bold]" in done.stdout
    outcomes = [row[1] for row in table(done.stdout, "requested at", "outcome")]
    assert outcomes == ["not_found", "delivered", "delivered", "delivered"]
    assert [row[2:4] for row in table(done.stdout, "id", "fetch")] == [["4", "open"]]


def test_why_shows_repeated_deliveries(run_with_warehouse: Run, shop: Shop) -> None:
    """After deliveries with the contents A, B, A and A, file A is selected and shown as delivered three times."""
    for name in "abaa":
        shop.reports.increment(DAY, [Order(name)])
        shop.load(DAY)
    first, second = (fetch for (fetch,) in shop.query("SELECT fetch_id FROM raw.fetch ORDER BY 1"))
    done = run_with_warehouse("why", DAY)
    assert done.returncode == 0, done.stderr
    fetches = table(done.stdout, "fetch", "kind")
    assert [row[0] for row in fetches] == [str(first), str(second)]
    assert [row[6] for row in fetches] == ["selected", f"delivered before fetch {first}"]
    delivered = re.findall(
        r"^fetch (\d+): user_orders_log_inc/\S+, delivered (3 times|once), ", done.stdout, re.MULTILINE
    )
    assert delivered == [(str(first), "3 times"), (str(second), "once")]
    outcomes = [row[2] for row in table(done.stdout, "requested at", "outcome")]
    again = f"same contents as fetch {first}"
    assert outcomes == [again, again, f"fetch {second}", f"fetch {first}"]
    assert f"staged from fetch {first}: 1 rows" in done.stdout


def test_why_of_a_day_that_was_never_requested(run_with_warehouse: Run) -> None:
    done = run_with_warehouse("why", DAY)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"mart.f_sales has no row on {DAY}",
        "no stored file covers the day",
        f"the increment of the day was never requested: `sales-assets load --from {DAY} --to {DAY}` requests it",
    ]
