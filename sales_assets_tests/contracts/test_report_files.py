"""Names and columns of the report files."""

import pytest

from sales_assets.contracts.report_files import REPORT_FILES, Kind, canonical_name


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("user_orders_log", ("user_orders_log", False)),
        ("user_order_log", ("user_orders_log", False)),
        ("user_orders_log_inc", ("user_orders_log", True)),
        ("user_order_log_inc", ("user_orders_log", True)),
        ("custom_research", ("custom_research", False)),
        ("customer_research", ("custom_research", False)),
        ("custom_research_inc", ("custom_research", True)),
        ("customer_research_inc", ("custom_research", True)),
        ("user_activity_log", ("user_activity_log", False)),
        ("user_activity_log_inc", ("user_activity_log", True)),
        ("price_log", ("price_log", False)),
        ("price_log_inc", ("price_log", True)),
        ("price_log_inc_inc", None),
        ("user_orders_log.csv", None),
        ("User_Orders_Log", None),
        ("_inc", None),
        ("", None),
    ],
)
def test_canonical_name(key: str, expected: tuple[str, bool] | None) -> None:
    assert canonical_name(key) == expected


@pytest.mark.parametrize("file", REPORT_FILES.values(), ids=REPORT_FILES)
def test_every_file_starts_with_the_line_number_and_has_a_day_if_it_has_a_date(file: object) -> None:
    from sales_assets.contracts.report_files import ReportFile

    assert isinstance(file, ReportFile)
    kinds = [column.kind for column in file.columns]
    assert kinds[0] is Kind.LINE_NO
    assert (Kind.DAY in kinds) == (Kind.DATE_TIME in kinds)
    assert len({column.name for column in file.columns}) == len(file.columns)
