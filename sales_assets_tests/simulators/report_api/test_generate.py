"""Generated files: they have the quirks of the real ones, and match the totals returned with them."""

import csv
from collections import Counter, defaultdict
from dataclasses import asdict
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from sales_assets.simulators.report_api.generate import DayTotals, Shop, generate, write_increment
from sales_assets_tests.simulators.report_api.conftest import Start, orders, write

FIRST_DAY = date(2024, 9, 1)
REPORT = [f"2024-09-{n:02}" for n in range(1, 24)]
INCREMENTS = [f"2024-09-{n:02}" for n in range(24, 31)]
SHOP = Shop(seed=7, lines_per_day=300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[DayTotals]]:
    folder = tmp_path_factory.mktemp("generated")
    return folder, generate(folder, SHOP, first_day=FIRST_DAY)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def day_file(folder: Path, day: str, name: str = "user_orders_log") -> Path:
    return folder / "inc" / day / f"{name}_inc.csv"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


def test_layout_and_oddities(made: tuple[Path, list[DayTotals]]) -> None:
    folder, totals = made
    assert {row["date_time"] for row in rows(folder / "main" / "user_orders_log.csv")} == {
        f"{day}T00:00:00" for day in REPORT
    }
    delivered = sorted(path.name for path in (folder / "inc").iterdir())
    assert delivered == [day for day in INCREMENTS if day != "2024-09-26"]
    assert [str(total.day) for total in totals] == REPORT + delivered
    assert not day_file(folder, "2024-09-27", "custom_research").exists()
    assert rows(day_file(folder, "2024-09-28")) == []
    assert totals[-3] == DayTotals(date(2024, 9, 28), 0, 0, 0, 0, 0, 0)
    prices = (folder / "main" / "price_log.csv").read_text(encoding="utf-8").splitlines()
    assert (len(prices), prices[0]) == (12, "Молоко 1%,100")


def test_statuses_come_with_the_second_increment(made: tuple[Path, list[DayTotals]]) -> None:
    folder, _ = made
    headers = {
        path.parent.name: path.read_text(encoding="utf-8").splitlines()[0].split(",")
        for path in folder.rglob("user_orders_log*.csv")
    }
    assert [day for day, columns in sorted(headers.items()) if "status" not in columns] == [
        "2024-09-24",
        "main",
    ]


def test_refunds_are_separate_lines(tmp_path: Path) -> None:
    total = write_increment(tmp_path, Shop(lines_per_day=20_000), FIRST_DAY, position=1)[0]
    lines = rows(day_file(tmp_path, "2024-09-01"))
    by_status: defaultdict[str, set[str]] = defaultdict(set)
    for line in lines:
        by_status[line["status"]].add(line["uniq_id"])
    assert set(by_status) == {"shipped", "refunded"}
    assert not by_status["shipped"] & by_status["refunded"]
    assert len(by_status["refunded"]) == total.refunded
    assert 0.03 <= total.refunded / total.distinct <= 0.08
    assert all(float(line["payment_amount"]) > 0 for line in lines)


@pytest.mark.parametrize("repeats", [0.47, 0.7, 0.94])
def test_duplicates_are_verbatim_and_never_adjacent(tmp_path: Path, repeats: float) -> None:
    write_increment(tmp_path, Shop(lines_per_day=2000, repeats=repeats), FIRST_DAY, position=1)
    lines = rows(day_file(tmp_path, "2024-09-01"))
    assert [line["id"] for line in lines] == [str(n) for n in range(1, 2001)]
    without_id = [tuple(value for name, value in line.items() if name != "id") for line in lines]
    assert 1 - len(set(without_id)) / len(lines) == pytest.approx(repeats, abs=0.001)
    assert len({line["uniq_id"] for line in lines}) == len(set(without_id))
    assert all(one != other for one, other in pairwise(without_id))
    distinct = len(set(without_id))
    assert len(set(without_id[:distinct])) < 0.8 * distinct
    most_frequent = Counter(without_id).most_common(1)[0][0]
    places = [n for n, line in enumerate(without_id) if line == most_frequent]
    assert max(places) - min(places) > 100


def test_both_line_ends_occur(made: tuple[Path, list[DayTotals]]) -> None:
    folder, _ = made
    ends = {path: path.read_bytes().count(b"\r\n") for path in folder.rglob("*.csv")}
    for path, count in ends.items():
        assert count in (0, path.read_bytes().count(b"\n"))
        assert path.read_bytes().endswith(b"\n")
    assert any(ends.values())
    assert not all(ends.values())
    assert {bool(ends[day_file(folder, day)]) for day in ("2024-09-25", "2024-09-30")} == {True, False}


def test_customers_buy_in_several_cities_and_change_their_names(made: tuple[Path, list[DayTotals]]) -> None:
    folder = made[0]
    lines = rows(folder / "main" / "user_orders_log.csv")
    cities, last_names, first_names = (defaultdict(set) for _ in range(3))
    for line in lines:
        cities[line["customer_id"]].add(line["city_name"])
        first_names[line["customer_id"]].add(line["first_name"])
        last_names[line["customer_id"]].add(line["last_name"])
    assert {city for some in cities.values() for city in some} == {"Москва", "Ростов", "Ярославль"}
    assert max(len(some) for some in cities.values()) > 1
    assert max(len(some) for some in last_names.values()) > 1
    assert max(len(some) for some in first_names.values()) == 1


def test_activity_has_days_without_lines(made: tuple[Path, list[DayTotals]]) -> None:
    days = {row["date_time"][:10] for row in rows(made[0] / "main" / "user_activity_log.csv")}
    assert 0 < len(days) < len(REPORT)
    assert len(rows(made[0] / "main" / "custom_research.csv")) == 30 * len(REPORT)


def test_totals_match_the_lines(made: tuple[Path, list[DayTotals]]) -> None:
    folder, totals = made
    files = [folder / "main" / "user_orders_log.csv", *folder.glob("inc/*/user_orders_log_inc.csv")]
    lines = [line for path in files for line in rows(path)]
    for total in totals:
        day = [line for line in lines if line["date_time"][:10] == str(total.day)]
        once = {line["uniq_id"]: line for line in day}.values()
        sign = [-1 if line.get("status") == "refunded" else 1 for line in once]
        assert asdict(total) == {
            "day": total.day,
            "lines": len(day),
            "bad": 0,
            "distinct": len(once),
            "refunded": sign.count(-1),
            "quantity": sum(s * int(line["quantity"]) for s, line in zip(sign, once, strict=True)),
            "amount": sum(s * int(line["payment_amount"]) for s, line in zip(sign, once, strict=True)),
        }


def test_files_depend_on_the_seed_and_editions_share_no_order(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, Shop(seed=seed, lines_per_day=50), first_day=FIRST_DAY)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    one, other = contents(tmp_path / "a"), contents(tmp_path / "c")
    same = {name for name in one if name.startswith("main/") and one[name] == other[name]}
    assert same == {"main/price_log.csv"}

    path = day_file(tmp_path / "a", "2024-09-30")
    before = {row["uniq_id"] for row in rows(path)}
    write_increment(tmp_path / "a", Shop(seed=1, lines_per_day=50), date(2024, 9, 30), position=6, edition=1)
    assert not before & {row["uniq_id"] for row in rows(path)}
    assert sorted(file.name for file in (tmp_path / "a" / "inc" / "2024-09-30").iterdir()) == [
        "custom_research_inc.csv",
        "price_log_inc.csv",
        "user_activity_log_inc.csv",
        "user_orders_log_inc.csv",
    ]


def test_invalid_lines_have_the_requested_number_and_various_faults(tmp_path: Path) -> None:
    total = write_increment(tmp_path, Shop(lines_per_day=1000, bad=0.05), FIRST_DAY, position=1)[0]
    assert (total.lines, total.bad) == (1000, 50)
    good = 0
    reasons: set[str] = set()
    for line in rows(day_file(tmp_path, "2024-09-01")):
        wrong = [
            name
            for name, fine in {
                "fields": None not in line.values(),
                "date": line["date_time"] == "2024-09-01T00:00:00",
                "customer": line["customer_id"].isdigit(),
                "item": line["item_id"].isdigit(),
                "quantity": (line["quantity"] or "").isdigit(),
                "amount": (line["payment_amount"] or "").isdigit(),
                "status": line["status"] in ("shipped", "refunded"),
            }.items()
            if not fine
        ]
        reasons.update(wrong)
        good += not wrong
    assert good == 950
    assert reasons >= {"fields", "date", "quantity", "amount", "status"}


def test_without_oddities_every_day_has_every_file(tmp_path: Path) -> None:
    generate(tmp_path, Shop(lines_per_day=10), first_day=FIRST_DAY, days=7, increments=7, oddities=False)
    assert len(list(tmp_path.glob("inc/*/*.csv"))) == 28
    assert all(rows(path) for path in tmp_path.glob("inc/*/user_orders_log_inc.csv"))


def test_an_earlier_generated_set_is_replaced_but_nothing_else(tmp_path: Path) -> None:
    shop = Shop(lines_per_day=10)
    generate(tmp_path / "ours", shop, first_day=date(2023, 1, 1))
    generate(tmp_path / "ours", shop, first_day=FIRST_DAY)
    generate(tmp_path / "fresh", shop, first_day=FIRST_DAY)
    assert contents(tmp_path / "ours") == contents(tmp_path / "fresh")

    theirs = write(tmp_path / "theirs" / "main" / "user_orders_log.csv", orders("2024-09-08"))
    with pytest.raises(FileExistsError, match="theirs"):
        generate(tmp_path / "theirs", shop, first_day=FIRST_DAY)
    assert theirs.read_text(encoding="utf-8") == orders("2024-09-08")


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_tiny_days(tmp_path: Path, size: int) -> None:
    totals = generate(tmp_path, Shop(lines_per_day=size, repeats=0.9), first_day=FIRST_DAY, oddities=False)
    assert {total.lines for total in totals} == {size}
    assert len(rows(tmp_path / "main" / "user_orders_log.csv")) == 23 * size


def test_impossible_sizes_are_refused(tmp_path: Path) -> None:
    for wrong in ({"repeats": 1.0}, {"refunds": -0.1}, {"bad": 2.0}, {"customers": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Shop(**wrong)
    with pytest.raises(ValueError, match="increments"):
        generate(tmp_path, SHOP, first_day=FIRST_DAY, days=3, increments=4)


def test_generated_folder_can_be_served(made: tuple[Path, list[DayTotals]], start: Start) -> None:
    client = start(made[0])
    report = client.report()
    assert (report["start_day"], report["end_date"]) == ("2024-09-01 00:00:00", "2024-09-23 00:00:00")
    gap = client.increment(report["report_id"], "2024-09-26")
    assert (gap["status"], gap["data"]) == ("NOT FOUND", {"increment_id": None})
    assert "debug_info" not in gap
    assert client.increment(report["report_id"], "2024-09-28")["status"] == "SUCCESS"
