"""Column lineage of the marts. A test checks that each column is in the schema of its table.

It is definition metadata, because it follows from the statements in ``sql/mart`` and is the same for every day. Columns
without an upstream column (`source`, `events`), or from tables that are not assets, are omitted.
"""

from collections.abc import Mapping

import dagster as dg

from sales_assets.schemas.lake import DIMENSIONS

# {column: columns of the upstream asset}
_Columns = Mapping[str, tuple[str, ...]]

_SAME = {name: (name,) for name in ("date_id", "item_id", "customer_id", "city_id", "quantity", "status")}
_WEEK: _Columns = {
    "period_id": ("date_id",),
    "item_id": ("item_id",),
    "new_customers_count": ("customer_id", "status"),
    "returning_customers_count": ("customer_id", "status"),
    "refunded_customer_count": ("customer_id", "status"),
    "new_customers_revenue": ("amount", "customer_id", "status"),
    "returning_customers_revenue": ("amount", "customer_id", "status"),
    "customers_refunded": ("status",),
    "refunded_amount": ("amount", "status"),
}
_COPIED = "message_id", "mailing_id", "client_id", "status", "attempts", "reason", "created_at", "finished_at"

_LAKE: _Columns = _SAME | {"sale_id": ("id",), "day": ("date_id",), "amount": ("amount",), "source": ("source",)}

# {asset: {upstream asset: columns}}
_UPSTREAM: Mapping[str, Mapping[str, _Columns]] = {
    "mart/f_sales": {
        # The status determines the sign of quantity and amount.
        "staging/user_orders_log": _SAME
        | {"id": ("sale_id",), "quantity": ("quantity", "status"), "amount": ("payment_amount", "status")},
    },
    "mart/f_sales_partner_orders": {
        "staging/partner_order_line": _SAME
        | {"id": ("sale_id",), "quantity": ("quantity", "status"), "amount": ("amount", "status")},
    },
    "mart/f_activity": {
        "staging/user_activity_log": {name: (name,) for name in ("date_id", "customer_id", "action_id", "quantity")},
    },
    "mart/f_research": {
        "staging/custom_research": {
            name: (name,) for name in ("date_id", "category_id", "geo_id", "sales_qty", "sales_amt")
        },
    },
    "lake/f_sales": {"mart/f_sales": _LAKE, "mart/f_sales_partner_orders": _LAKE},
    **{
        f"lake/{name}": {f"mart/{name}": {column.name: (column.name,) for column in columns}}
        for name, columns in DIMENSIONS.items()
    },
    "mart/f_customer_retention": {"mart/f_sales": _WEEK, "mart/f_sales_partner_orders": _WEEK},
    "mart/f_mailing_deliveries": {
        "sources/mailings/message": {name: (name,) for name in _COPIED}
        | {"date_id": ("created_at",), "seconds_to_deliver": ("created_at", "finished_at", "status")},
        "mailings/client_customer": {"customer_id": ("customer_id",)},
    },
    "mart/f_mailing_statistics": {
        "mart/f_mailing_deliveries": {
            "date_id": ("date_id",),
            "mailing_id": ("mailing_id",),
            "messages": ("message_id",),
            **dict.fromkeys(("pending", "sent", "failed", "timed_out"), ("status",)),
            "attempts": ("attempts",),
            "linked_customers": ("customer_id",),
            "median_seconds": ("seconds_to_deliver",),
            "slowest_seconds": ("seconds_to_deliver",),
            "last_finished_at": ("finished_at",),
        },
    },
}


def _lineage(upstream: Mapping[str, _Columns]) -> dg.TableColumnLineage:
    deps: dict[str, list[dg.TableColumnDep]] = {}
    for asset, columns in upstream.items():
        for column, of in columns.items():
            key = dg.AssetKey.from_user_string(asset)
            deps.setdefault(column, []).extend(dg.TableColumnDep(key, name) for name in of)
    return dg.TableColumnLineage(deps)


COLUMN_LINEAGE = {dg.AssetKey.from_user_string(asset): _lineage(upstream) for asset, upstream in _UPSTREAM.items()}
