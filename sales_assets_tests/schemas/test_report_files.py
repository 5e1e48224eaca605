"""Names and columns of the report files."""

import pytest

from sales_assets.schemas.report_files import (
    CUSTOM_RESEARCH,
    PRICE_LOG,
    REPORT_FILES,
    USER_ACTIVITY_LOG,
    USER_ORDERS_LOG,
    Kind,
    ReportFile,
    canonical_name,
    file_with_header,
)


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
def test_a_file_has_a_line_number_first_and_a_day_if_it_has_a_date(file: ReportFile) -> None:
    kinds = [column.kind for column in file.columns]
    assert kinds[0] is Kind.LINE_NO
    assert (Kind.DAY in kinds) == (Kind.DATE_TIME in kinds)
    assert len({column.name for column in file.columns}) == len(file.columns)


def test_the_schema_has_the_types_used_in_postgresql() -> None:
    assert {column.name: column.kind.sql_type for column in CUSTOM_RESEARCH.columns} == {
        "line_no": "bigint",
        "date_id": "integer",
        "date_time": "text",
        "category_id": "integer",
        "geo_id": "integer",
        "sales_qty": "numeric(10,2)",
        "sales_amt": "numeric(10,2)",
    }
    assert [field.name for field in USER_ORDERS_LOG.schema if field.nullable] == ["uniq_id"]


def test_the_expected_header_names_every_column_once() -> None:
    assert USER_ORDERS_LOG.expected_header == (
        "id,[uniq_id],date_time,city_id,city_name,customer_id,first_name,last_name,"
        "item_id,item_name,quantity,payment_amount,[status]"
    )
    assert PRICE_LOG.expected_header == "item_name,price"


RESEARCH = ["date_id", "category_id", "geo_id", "sales_qty", "sales_amt"]


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (RESEARCH, CUSTOM_RESEARCH),
        ([*RESEARCH[::-1], "more"], CUSTOM_RESEARCH),
        ([f" {name.upper()}\t" for name in RESEARCH], CUSTOM_RESEARCH),
        (RESEARCH[1:], None),
        (["uniq_id", "date_time", "action_id", "customer_id", "quantity"], USER_ACTIVITY_LOG),
        ([c.header or "" for c in USER_ORDERS_LOG.delivered if not c.optional], USER_ORDERS_LOG),
        (["Milk", "12.50"], PRICE_LOG),
        (["Milk", " 12 "], PRICE_LOG),
        (["Milk", "12.50", ""], None),
        (["Milk", "cheap"], None),
        (["Milk", "12."], None),
        (["Milk"], None),
        ([], None),
    ],
)
def test_the_first_line_identifies_the_file(names: list[str], file: ReportFile | None) -> None:
    assert file_with_header(names) is file
