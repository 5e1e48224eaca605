"""Folder of report files: the days that it covers, and the files that it delivers."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import requests

from sales_assets.simulators.report_api.folder import Period, ReportFolder
from sales_assets_tests.simulators.report_api.conftest import ORDERS_HEADER, Start, orders, write

REAL_DATA = next(
    (
        folder / "shared" / "data"
        for folder in Path(__file__).resolve().parents
        if (folder / "shared" / "data" / "report-2024-09").is_dir()
    ),
    None,
)


def days(first: str, last: str) -> Period:
    return Period(date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize("spelling", ["user_orders_log", "user_order_log"])
def test_period_spans_the_order_lines_in_any_order(tmp_path: Path, spelling: str) -> None:
    write(tmp_path / "main" / f"{spelling}.csv", orders("2024-09-10", "2024-09-08", "2024-09-30", "2024-09-11"))
    write(tmp_path / "inc" / "2024-09-20" / f"{spelling}_inc.csv", orders("2024-09-20"))
    assert ReportFolder(tmp_path).period() == days("2024-09-08", "2024-09-30")


ODD_LINES = {
    '1,a,"2024-09-05T00:00:00",0,"Москва, центр",7': "2024-09-05",
    '2,"b,b",2024-09-04T10:11:12Z,0': "2024-09-04",
    "3,c,2024-09-06": "2024-09-06",
    "4,\x00,2024-09-07T00:00:00": "2024-09-07",
    "5,d,2024-02-30T00:00:00,0": None,
    "6,e,20240101T000000": None,
    "7,f,2024-W01-1": None,
    "8,g,not a date": None,
    "9": None,
    "": None,
    '10,"open quote,1999-01-01T00:00:00': None,
    "11,h,٢٠٢٤-٠١-٠١T00:00:00": None,
    "12," + "x" * 200_000 + ',"': None,
}


@pytest.mark.parametrize(("line", "day"), ODD_LINES.items(), ids=range(len(ODD_LINES)))
def test_malformed_lines_do_not_count_and_do_not_break_the_period(tmp_path: Path, line: str, day: str | None) -> None:
    path = write(tmp_path / "main" / "user_orders_log.csv", f"{ORDERS_HEADER}\n{line}\n")
    with path.open("ab") as file:
        file.write(b"13,\xff\xfe,2024-09-14T00:00:00,0")
    assert ReportFolder(tmp_path).period() == days(day or "2024-09-14", "2024-09-14")


@pytest.mark.parametrize(
    "text",
    [
        ",id, date_time ,x\r\n0,1,2024-09-08T00:00:00,2020-01-01\r\n",
        "\ufeffdate_time,id\n2024-09-08T00:00:00,2020-01-01\n",
    ],
)
def test_date_is_found_by_the_headers_name(tmp_path: Path, text: str) -> None:
    write(tmp_path / "main" / "user_orders_log.csv", text)
    assert ReportFolder(tmp_path).period() == days("2024-09-08", "2024-09-08")


@pytest.mark.parametrize("text", [None, "", ORDERS_HEADER, ORDERS_HEADER + "\n", "no,such,column\n1,2,2024-01-01\n"])
def test_without_order_lines_the_period_is_the_day_before_the_first_increment(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        write(tmp_path / "main" / "user_orders_log.csv", text)
    for name in ("2024-03-02", "2024-03-01", ".2024-02-01", "2024-2-1", "notes"):
        (tmp_path / "inc" / name).mkdir(parents=True)
    write(tmp_path / "inc" / "2024-01-01", "a file, not a folder")
    assert ReportFolder(tmp_path).period() == days("2024-02-29", "2024-02-29")


def test_empty_folder_has_a_default_period(tmp_path: Path) -> None:
    period = ReportFolder(tmp_path).period()
    assert period.start == period.end
    assert abs(datetime.now(UTC).date() - period.end - timedelta(days=8)) <= timedelta(days=1)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nowhere"):
        ReportFolder(tmp_path / "nowhere")


def test_files_may_change_while_the_server_runs(tmp_path: Path, start: Start) -> None:
    client = start()
    report = client.report()
    assert report["s3_path"] == {}
    write(tmp_path / "main" / "user_orders_log.csv", orders("2024-09-08"))
    assert client.report()["start_day"] == "2024-09-08 00:00:00"
    write(tmp_path / "main" / "user_orders_log.csv", orders("2024-09-09", "2024-09-10"))
    assert client.report()["start_day"] == "2024-09-09 00:00:00"

    assert client.increment(report["report_id"], "2024-09-11")["status"] == "NOT FOUND"
    (tmp_path / "inc" / "2024-09-11").mkdir(parents=True)
    empty = client.increment(report["report_id"], "2024-09-11")
    assert (empty["status"], empty["data"]["s3_path"]) == ("SUCCESS", {})
    write(tmp_path / "inc" / "2024-09-11" / "price_log_inc.csv", "")
    links = client.increment(report["report_id"], "2024-09-11")["data"]["s3_path"]
    assert list(links) == ["price_log_inc"]
    response = requests.get(links["price_log_inc"], timeout=10)
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (200, b"", "0")


def test_files_keep_their_spelling_and_missing_files_have_no_key(tmp_path: Path, start: Start) -> None:
    write(tmp_path / "main" / "user_order_log.csv", orders("2024-09-08"))
    write(tmp_path / "main" / "customer_research.csv", "x\n")
    write(tmp_path / "main" / "notes.csv", "none of the service's files\n")
    write(tmp_path / "main" / "price_log.csv.bak", "nor this\n")
    write(tmp_path / "inc" / "2024-09-09" / "user_orders_log_inc.csv", orders("2024-09-09"))
    client = start()
    report = client.report()
    assert sorted(report["s3_path"]) == ["customer_research", "user_order_log"]
    increment = client.increment(report["report_id"], "2024-09-09")
    assert list(increment["data"]["s3_path"]) == ["user_orders_log_inc"]


def test_increment_inside_the_reports_period_is_delivered(tmp_path: Path, start: Start) -> None:
    write(tmp_path / "main" / "user_orders_log.csv", orders("2024-09-08", "2024-09-30"))
    write(tmp_path / "inc" / "2024-09-10" / "user_orders_log_inc.csv", orders("2024-09-10"))
    write(tmp_path / "inc" / "2024-08-10" / "user_orders_log_inc.csv", orders("2024-08-10"))
    client = start()
    report_id = client.report()["report_id"]
    found = {day: client.increment(report_id, day)["status"] for day in ("2024-08-10", "2024-09-09", "2024-09-10")}
    assert found == {"2024-08-10": "SUCCESS", "2024-09-09": "NOT FOUND", "2024-09-10": "SUCCESS"}


@pytest.mark.skipif(REAL_DATA is None, reason="the real files are not here")
def test_real_files(start: Start) -> None:
    assert REAL_DATA is not None
    client = start(REAL_DATA / "report-2024-09")
    report = client.report()
    assert (report["start_day"], report["end_date"]) == ("2024-09-08 00:00:00", "2024-09-30 00:00:00")
    main = REAL_DATA / "report-2024-09" / "main"
    assert {f"{name}.csv" for name in report["s3_path"]} == {path.name for path in main.iterdir()}
    for name, url in report["s3_path"].items():
        assert requests.get(url, timeout=10).content == (main / f"{name}.csv").read_bytes()
    without_research = client.increment(report["report_id"], "2024-10-02")["data"]["s3_path"]
    assert sorted(without_research) == ["price_log_inc", "user_activity_log_inc", "user_order_log_inc"]

    increments_only = start(REAL_DATA / "increments-2023-04")
    report = increments_only.report()
    assert (report["start_day"], report["end_date"]) == ("2023-04-06 00:00:00", "2023-04-06 00:00:00")
    assert report["s3_path"] == {}
    assert increments_only.increment(report["report_id"], "2023-04-19")["status"] == "SUCCESS"
    assert "debug_info" in increments_only.increment(report["report_id"], "2023-04-06")
