"""Selection of the raw file of a day (docs/data-contracts/day-rules.md, "Selection")."""

from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import RAW, Shop

DAY = "2024-09-10"
OTHER = "2024-09-11"


def line(name: str, status: str | None = None) -> Order:
    return Order(name, day=DAY, status=status)


def test_a_file_without_statuses_never_replaces_one_with_statuses(shop: Shop) -> None:
    """A later file with statuses replaces the day."""
    shop.reports.increment(DAY, [line("a"), line("r", "refunded")])
    shop.load(DAY)
    for old_format in ([line("a"), line("r"), line("new")], []):
        shop.reports.increment(DAY, old_format, statuses=False)
        shop.load(DAY)
        assert shop.sales() == [("a", 200), ("r", -200)]
    # The header decides, not the cells: a file with an empty status column has statuses.
    shop.reports.increment(DAY, [line("a"), line("r")], statuses=True)
    shop.load(DAY)
    assert shop.sales() == [("a", 200), ("r", 200)]


def test_report_and_increment_are_never_combined(shop: Shop) -> None:
    """The increment serves its day, whichever was delivered first; the report serves the other days."""
    shop.reports.report([line("report"), Order("other", day=OTHER)])
    shop.load(DAY, OTHER)
    assert shop.sales() == [("report", 200), ("other", 200)]
    shop.reports.increment(DAY, [line("increment")], statuses=False)
    shop.load(DAY, OTHER)
    assert shop.sales() == [("increment", 200), ("other", 200)]
    shop.reports.report([line("later report"), Order("other", day=OTHER, amount="7")])
    shop.reports.without_increment(DAY)
    shop.fetch_report()
    shop.load(DAY, OTHER)
    assert shop.sales() == [("increment", 200), ("other", 7)]
    # A report with statuses is preferred to an increment without.
    shop.reports.report([line("report"), Order("other", day=OTHER)], statuses=True)
    shop.fetch_report()
    shop.load(DAY, OTHER)
    assert shop.sales() == [("report", 200), ("other", 200)]


def test_stored_files_that_were_never_parsed_are_candidates_too(shop: Shop) -> None:
    """Raw files may be fetched repeatedly without a load; the next load selects the best of all fetched files."""
    shop.reports.report([line("report")], statuses=True)
    shop.fetch_report()
    for name, statuses in (("old increment", False), ("increment", True), ("later old increment", False)):
        shop.reports.increment(DAY, [line(name)], statuses=statuses)
        shop.load(DAY, selection=RAW)
    assert shop.sales() == []
    shop.reports.without_increment(DAY)
    shop.load(DAY)
    assert shop.sales() == [("increment", 200)]
    verdicts = shop.query("SELECT kind, verdict FROM staging.fetch_reading JOIN raw.fetch USING (fetch_id) ORDER BY 1")
    assert verdicts == [("increment", "usable")] * 3 + [("report", "usable")]
