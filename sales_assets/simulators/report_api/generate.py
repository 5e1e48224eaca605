"""Generate report files of any size, with all quirks of real files, in the layout that ``folder`` serves.

The same arguments give the same bytes. Each day depends only on (seed, date, edition): it has the same lines in the
report and in an increment, except for statuses, and different lines in another edition.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

# Names and prices of the real API.
_CITIES = ("Москва", "Ростов", "Ярославль")
_ITEMS = (
    ("Молоко 1%", 100),
    ("Молоко 3%", 120),
    ("Молоко 5%", 150),
    ("Устройство для нагревания табака Трубка Мира", 500),
    ("Сахар песок", 50),
    ("Яблоко молодильное", 400),
    ("Яблоко", 140),
    ("Средство для мытья посуды", 200),
    ("Лампочка LED", 300),
    ("Ручка шариковая", 45),
    ("Томаты", 50),
    ("Хлеб ржаной", 20),
)
_PEOPLE = (
    (
        "Александра Анна Евгения Екатерина Елизавета Надежда Оксана Ольга Светлана Снежанна",
        "Алексеева Великая Волкова Егорова Козлова Лебедева Морозова Орлова Павлова Федорова",
    ),
    (
        "Александр Алексей Геннадий Евгений Иван Константин Олег Петр Сергей Эдуард",
        "Васильев Иванов Кузнецов Михайлов Новиков Петров Попов Сидоров Смирнов Соколов",
    ),
)
_NAMES = [f"{first},{last}" for firsts, lasts in _PEOPLE for first in firsts.split() for last in lasts.split()]

_ORDER_COLUMNS = (
    "id,uniq_id,date_time,city_id,city_name,customer_id,first_name,last_name,item_id,item_name,quantity,payment_amount"
)
_RESEARCH_COLUMNS = "date_id,category_id,geo_id,sales_qty,sales_amt"
_ACTIVITY_COLUMNS = "id,uniq_id,date_time,action_id,customer_id,quantity"

# Positions, within the window, of the increments with an oddity.
_OLD_FORMAT = 0
_NOT_FOUND = 2
_NO_RESEARCH = 3
_NO_ORDERS = 4

_MARK = "GENERATED"
_LINES_AT_ONCE = 100_000
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Shop:
    """Properties of the generated data.

    Attributes:
        seed: The same seed gives the same files.
        lines_per_day: Order lines per day, including duplicates and invalid ones.
        repeats: Share of the valid order lines that duplicate an earlier one (the real API: 0.47 to 0.94).
        refunds: Share of the distinct order lines that are refunds, if a file has statuses (the real API: 0.03 to
            0.08).
        bad: Share of the order lines that break a rule of the format, in various ways.
        customers: Number of customers to draw from.
    """

    seed: int = 0
    lines_per_day: int = 1_000
    repeats: float = 0.7
    refunds: float = 0.05
    bad: float = 0.0
    customers: int = 10_000

    def __post_init__(self) -> None:
        """Raise ValueError for a share outside 0..1 or an impossible size."""
        if not 0 <= self.repeats < 1:
            raise ValueError(f"repeats is a share from 0 to below 1, not {self.repeats}")
        for name in ("refunds", "bad"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.seed < 0 or self.lines_per_day < 0 or self.customers < 1:
            raise ValueError(f"seed and lines_per_day must not be negative, customers at least 1: {self}")


@dataclass(frozen=True)
class DayTotals:
    """Expected totals of a day's order lines: duplicates counted once, invalid lines left out, refunds subtracted.

    Attributes:
        day: Date of the lines.
        lines: Number of all lines in the file.
        bad: Number of lines that break a rule.
        distinct: Number of distinct valid lines.
        refunded: Number of refunds among the distinct lines.
        quantity: Net quantity.
        amount: Net amount, in whole currency units.
    """

    day: date
    lines: int
    bad: int
    distinct: int
    refunded: int
    quantity: int
    amount: int


def generate(
    folder: Path, shop: Shop, *, first_day: date, days: int = 30, increments: int = 7, oddities: bool = True
) -> list[DayTotals]:
    """Write a main report and the increments after it; the folder is created if needed.

    Args:
        folder: Target folder; generated files in it are replaced.
        shop: Properties of the data.
        first_day: First day of the main report.
        days: Number of all days; the last `increments` are increments, the others are in the report.
        increments: Number of increment days. The first has no statuses, the later ones do.
        oddities: Whether one increment is missing, one has no order line, and one lacks a file.

    Returns:
        Expected totals of each delivered day, in order.

    Raises:
        FileExistsError: the folder holds report files that were not generated.
        ValueError: more increments than days.
    """
    if not 0 <= increments <= days:
        raise ValueError(f"{increments} increments do not fit into {days} days")
    if not (folder / _MARK).exists() and any((folder / name).exists() for name in ("main", "inc")):
        raise FileExistsError(f"{folder} holds report files that were not generated: they are not overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    calendar = [first_day + index * _ONE_DAY for index in range(days)]
    reported, later = calendar[: days - increments], calendar[days - increments :]
    totals = write_report(folder, shop, reported)
    for place in (folder / "inc").glob("*"):
        if place.name not in [day.isoformat() for day in later]:
            _remove(place)
    for position, day in enumerate(later):
        totals += write_increment(folder, shop, day, position=position, oddities=oddities)
    return totals


def write_report(folder: Path, shop: Shop, days: Sequence[date]) -> list[DayTotals]:
    """Write the four files of the main report, each by an atomic rename; returns the expected totals of each day."""
    main = folder / "main"
    main.mkdir(exist_ok=True)
    totals: list[DayTotals] = []

    def orders() -> Iterator[str]:
        yield f"{_ORDER_COLUMNS}\n"
        number = 1
        for day in days:
            lines, total = _orders(shop, day, edition=0, statuses=False, end="\n")
            totals.append(total)
            yield from lines.numbered(number)
            number += total.lines

    research = [line for day in days for line in _research(shop, day, edition=0)]
    activity = [line for day in days for line in _activity(shop, day, edition=0)]
    _write(main / "user_orders_log.csv", orders())
    _write(main / "custom_research.csv", _ended("\r\n", [_RESEARCH_COLUMNS, *research]))
    _write(main / "user_activity_log.csv", _ended("\n", [_ACTIVITY_COLUMNS, *_numbered(activity)]))
    _write(main / "price_log.csv", _ended("\r\n", _prices()))
    return totals


def write_increment(
    folder: Path, shop: Shop, day: date, *, position: int, edition: int = 0, oddities: bool = True
) -> list[DayTotals]:
    """Write or replace the increment of one day.

    A new day appears with all its files at once; in a replaced day, each file is replaced by an atomic rename.

    Args:
        folder: The generated folder.
        shop: Properties of the data.
        day: The day of the increment.
        position: Position among the increments of the window, from 0, which determines the oddity.
        edition: Number of the version; each has different contents.
        oddities: Whether increments have oddities.

    Returns:
        Expected totals of the day; empty if it is the missing day.
    """
    place = folder / "inc" / day.isoformat()
    oddity = position if oddities else None
    if oddity == _NOT_FOUND:
        _remove(place)
        return []
    draft = _hidden(place)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)

    statuses = position != _OLD_FORMAT
    end = "\r\n" if position % 2 else "\n"
    selling = replace(shop, lines_per_day=0) if oddity == _NO_ORDERS else shop
    lines, total = _orders(selling, day, edition=edition, statuses=statuses, end=end)
    header = f"{_ORDER_COLUMNS}{',status' if statuses else ''}{end}"
    _write(draft / "user_orders_log_inc.csv", [header, *lines.numbered(1)])
    if oddity != _NO_RESEARCH:
        research = _research(shop, day, edition=edition)
        _write(draft / "custom_research_inc.csv", _ended("\n", [_RESEARCH_COLUMNS, *research]))
    activity = _numbered(_activity(shop, day, edition=edition))
    _write(draft / "user_activity_log_inc.csv", _ended("\n", [_ACTIVITY_COLUMNS, *activity]))
    _write(draft / "price_log_inc.csv", _ended("\n", _prices()))

    if place.exists():
        written = {path.name for path in draft.iterdir()}
        for name in written:
            (draft / name).replace(place / name)
        for path in place.iterdir():
            if path.name not in written:
                path.unlink()
        draft.rmdir()
    else:
        draft.rename(place)
    return [total]


@dataclass(frozen=True)
class _Lines:
    """Distinct lines without their `id`, and the order of lines and duplicates in the file."""

    distinct: list[str]
    order: npt.NDArray[np.int64]

    def numbered(self, first: int) -> Iterator[str]:
        """Yield the lines with their `id`, joined to pieces of some megabytes."""
        for start in range(0, self.order.size, _LINES_AT_ONCE):
            picks = self.order[start : start + _LINES_AT_ONCE].tolist()
            yield "".join([f"{n},{self.distinct[pick]}" for n, pick in enumerate(picks, first + start)])


def _orders(shop: Shop, day: date, *, edition: int, statuses: bool, end: str) -> tuple[_Lines, DayTotals]:
    rng = np.random.default_rng([shop.seed, day.toordinal(), edition])
    bad = round(shop.lines_per_day * shop.bad)
    good = shop.lines_per_day - bad
    distinct = max(1, round(good * (1 - shop.repeats))) if good else 0
    size = distinct + bad
    # Draw the city per sale, not per customer: customers buy in several cities.
    city = rng.integers(len(_CITIES), size=size)
    customer = rng.integers(shop.customers, size=size)
    item = rng.integers(len(_ITEMS), size=size)
    quantity = rng.integers(1, 6, size=size)
    amount = quantity * np.array([price for _, price in _ITEMS])[item]
    # A refund is a separate line with a different uniq_id, not necessarily of a sale in the files.
    refunded = (rng.random(size) < shop.refunds) & statuses
    uniq_ids = rng.bytes(16 * size).hex()
    status = [",refunded" if refund else ",shipped" for refund in refunded] if statuses else [""] * size
    lines = [
        f"{uniq_ids[32 * n : 32 * n + 32]},{day}T00:00:00,{c},{_CITIES[c]},{who},{_NAMES[name]},"
        f"{i},{_ITEMS[i][0]},{pieces},{money}{state}{end}"
        for n, (c, who, name, i, pieces, money, state) in enumerate(
            zip(
                city.tolist(),
                customer.tolist(),
                _name_of(customer, day).tolist(),
                item.tolist(),
                quantity.tolist(),
                amount.tolist(),
                status,
                strict=True,
            )
        )
    ]
    lines[distinct:] = [_broken(line, n, statuses) for n, line in enumerate(lines[distinct:])]
    order = np.arange(size)
    if good:
        order = np.concatenate([order, rng.integers(distinct, size=good - distinct)])
    rng.shuffle(order)
    _part_neighbours(order, rng)
    sign = np.where(refunded, -1, 1)[:distinct]
    total = DayTotals(
        day=day,
        lines=int(order.size),
        bad=bad,
        distinct=distinct,
        refunded=int(refunded[:distinct].sum()),
        quantity=int((sign * quantity[:distinct]).sum()),
        amount=int((sign * amount[:distinct]).sum()),
    )
    return _Lines(lines, order), total


def _name_of(customer: npt.NDArray[np.int64], day: date) -> npt.NDArray[np.int64]:
    # One customer in five takes another last name every ten days.
    marriages = np.where(customer % 5 == 0, day.toordinal() // 10, 0)
    person = customer // 10 % 20
    return person * 10 + (customer + marriages) % 10


def _part_neighbours(order: npt.NDArray[np.int64], rng: np.random.Generator) -> None:
    # Duplicates are never adjacent in the real files, so that comparing neighbours finds none. With few distinct lines
    # this can be impossible, hence the limit.
    for _ in range(20):
        twins = np.flatnonzero(order[1:] == order[:-1]) + 1
        if not twins.size:
            return
        for twin, other in zip(twins, rng.integers(order.size, size=twins.size), strict=True):
            order[twin], order[other] = order[other], order[twin]


def _broken(line: str, number: int, statuses: bool) -> str:
    cells = line.rstrip().split(",")
    end = line[len(line.rstrip()) :]
    kinds = [(1, "2024-02-30T00:00:00"), (4, ""), (9, "-1"), (10, "12e2"), (10, "-50"), (7, "ten")]
    if statuses:
        kinds.append((11, "cancelled"))
    kind = number % (len(kinds) + 1)
    if kind == len(kinds):
        return ",".join(cells[:-2]) + end
    column, value = kinds[kind]
    cells[column] = value
    return ",".join(cells) + end


def _research(shop: Shop, day: date, *, edition: int) -> list[str]:
    rng = np.random.default_rng([shop.seed, day.toordinal(), edition, 1])
    sold = rng.integers(10, size=30).tolist()
    return [f"{day}T00:00:00,{1001 + n // 3},{1 + n % 3},{q},{q * 384}" for n, q in enumerate(sold)]


def _activity(shop: Shop, day: date, *, edition: int) -> list[str]:
    rng = np.random.default_rng([shop.seed, day.toordinal(), edition, 2])
    # Many days have none; a quantity of 0 is legal.
    size = max(0, int(rng.integers(-12, 16)))
    rows = zip(*(rng.integers(top, size=size).tolist() for top in (4, 1000, 25)), strict=True)
    return [f"{rng.bytes(16).hex()},{day}T00:00:00,{action},{who},{times}" for action, who, times in rows]


def _prices() -> list[str]:
    return [f"{name},{price}" for name, price in _ITEMS]


def _numbered(lines: Iterable[str]) -> Iterator[str]:
    return (f"{number},{line}" for number, line in enumerate(lines, 1))


def _ended(end: str, lines: Iterable[str]) -> Iterator[str]:
    return (f"{line}{end}" for line in lines)


def _hidden(place: Path) -> Path:
    return place.with_name(f".{place.name.lstrip('.')}")


def _remove(place: Path) -> None:
    # Rename the folder first: deleted file by file, the day would be served for a moment with some of its files.
    hidden = _hidden(place)
    if place.exists() and place != hidden:
        shutil.rmtree(hidden, ignore_errors=True)
        place.replace(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _write(path: Path, pieces: Iterable[str]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)
    part.replace(path)
