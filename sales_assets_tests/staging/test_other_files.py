"""The three files next to the orders: keys, duplicates, and the same selection rules as for orders."""

from sales_assets_tests.builders import Order
from sales_assets_tests.fixtures import Shop

DAY = "2024-10-01"


def quarantined(shop: Shop) -> list[tuple[object, ...]]:
    return shop.query("SELECT file, line_no FROM staging.quarantine JOIN raw.fetch USING (fetch_id) ORDER BY 1, 2")


def test_keys_duplicates_and_conflicts(shop: Shop) -> None:
    shop.reports.increment(
        DAY,
        [Order("a")],
        custom_research="date_id,category_id,geo_id,sales_qty,sales_amt\n"
        "2024-10-01T00:00:00,1,1,5,50\n2024-10-01T00:00:00,1,1,5,50.00\n"
        "2024-10-01T00:00:00,1,2,5,50\n2024-10-01T00:00:00,1,2,6,50\n2024-10-02T00:00:00,1,1,5,50\n",
        user_activity_log="id,uniq_id,date_time,action_id,customer_id,quantity\n"
        "1,u,2024-10-01T00:00:00,4,51,0\n2,u,2024-10-01T00:00:00,4,51,0\n"
        "3,v,2024-10-01T00:00:00,4,51,1\n4,v,2024-10-01T00:00:00,5,51,1\n5,w,2024-10-01T00:00:00,5,51,-1\n",
        price_log='Milk,100\n"Bread, white",7.5\nMilk,100.00\nTea,1\nTea,2\n',
    )
    shop.load(DAY)
    assert shop.query("SELECT date_id, category_id, geo_id, sales_qty, sales_amt FROM staging.custom_research") == [
        (20241001, 1, 1, 5, 50)
    ]
    assert shop.query("SELECT date_id, uniq_id, action_id, quantity FROM staging.user_activity_log") == [
        (20241001, "u", 4, 0)
    ]
    assert shop.query("SELECT date_id, item_name, price::text FROM staging.price_log ORDER BY 2") == [
        (20241001, "Bread, white", "7.50"),
        (20241001, "Milk", "100.00"),
    ]
    assert quarantined(shop) == [
        *(("custom_research", line_no) for line_no in (4, 5, 6)),
        *(("price_log", line_no) for line_no in (4, 5)),
        *(("user_activity_log", line_no) for line_no in (4, 5, 6)),
    ]
    counts = shop.query(
        "SELECT file, lines, kept, repeats, bad FROM staging.fetch_reading JOIN raw.fetch USING (fetch_id) ORDER BY 1"
    )
    assert counts == [
        ("custom_research", 5, 1, 1, 3),
        ("price_log", 5, 2, 1, 2),
        ("user_activity_log", 5, 1, 1, 3),
        ("user_orders_log", 1, 1, 0, 0),
    ]


def test_a_price_list_is_used_for_every_day_of_its_delivery(shop: Shop) -> None:
    """A report's price list is used for the whole period unless a day's increment has one; an empty list counts too."""
    days = ["2024-09-01", "2024-09-02", "2024-09-03"]
    shop.reports.report([Order(day, day=day) for day in days], price_log="Milk,100\n")
    shop.reports.increment(days[1], [], price_log="Milk,101\nBread,7\n")
    shop.reports.increment(days[2], [], price_log="")
    shop.load(days[0], days[2])
    assert shop.query("SELECT date_id, item_name, price FROM staging.price_log ORDER BY 1, 2") == [
        (20240901, "Milk", 100),
        (20240902, "Bread", 7),
        (20240902, "Milk", 101),
    ]


def test_days_without_lines_and_files_under_their_other_names(shop: Shop) -> None:
    """An activity file without rows is normal; the service's alternative names refer to the same files."""
    activity = "id,uniq_id,date_time,action_id,customer_id,quantity\n"
    research = "date_id,category_id,geo_id,sales_qty,sales_amt\n2024-10-01T00:00:00,1,1,5,50\n"
    shop.reports.increment(DAY, None, user_activity_log=f"{activity}1,u,{DAY},4,51,2\n", customer_research=research)
    shop.load(DAY)
    assert shop.query("SELECT count(*) FROM staging.user_activity_log") == [(1,)]
    assert shop.query("SELECT count(*) FROM staging.custom_research") == [(1,)]
    shop.reports.increment(DAY, None, user_activity_log=activity)
    shop.load(DAY)
    assert shop.query("SELECT count(*) FROM staging.user_activity_log") == [(0,)]
    assert shop.query("SELECT count(*) FROM staging.custom_research") == [(1,)]
