"""Audience assets: links of clients to customers, and the clients' tags.

The tags are defined in ``sql/mailings/client_tag.sql``; ``mailings.phone_key`` normalizes phones.
"""

from collections.abc import Iterator

import dagster as dg

from sales_assets.dagster_internals import last_event_id
from sales_assets.defs.checking import SqlCheck, evaluate
from sales_assets.defs.mart.f_sales import F_SALES
from sales_assets.defs.mart.f_sales_partner_orders import F_SALES_PARTNER_ORDERS
from sales_assets.defs.sources.service_tables import CLIENT
from sales_assets.postgres.warehouse import Warehouse

CLIENT_CUSTOMER = dg.AssetKey(["mailings", "client_customer"])
CLIENT_TAG = dg.AssetKey(["mailings", "client_tag"])

# Tag on materializations of the client tags: the fingerprint of the links that they were derived from.
LINKS_TAG = "sales_assets/links"


def audience_checks() -> list[SqlCheck]:
    """Declare the checks of links and tags."""
    return [
        SqlCheck(
            "clients_linked",
            CLIENT_CUSTOMER,
            "At least half of the clients are linked to a customer.",
            dg.AssetCheckSeverity.WARN,
        ),
        SqlCheck("tags_linked", CLIENT_TAG, "Every client with a tag from the marts is linked to a customer."),
    ]


@dg.multi_asset(
    name="audience",
    specs=[
        dg.AssetSpec(
            CLIENT_CUSTOMER,
            deps=[CLIENT],
            description="Links of the mailings' clients to customers of the mart: by the phone that partner orders map "
            "to a customer (`staging.partner_customer`, `sales-assets orders map`), or set through the API.\n\n"
            "Phones are compared as 7 and ten digits: `+7 (921) ...`, `8 921 ...` and ten digits alone are the same; "
            "any other phone is counted but not linked. A phone of two customers is not linked. Links set through the "
            "API take precedence over the phone. A link by phone is removed when the phone changes.",
        ),
        dg.AssetSpec(
            CLIENT_TAG,
            deps=[CLIENT_CUSTOMER, F_SALES, F_SALES_PARTNER_ORDERS],
            description="Tags of linked clients, for the tag filter of a mailing, which matches these tags and the "
            "tag set by users. The tag set by users is never changed.\n\n"
            "**new**: the customer has exactly one shipped line in the mart, ever. **returning**: more than one. "
            "**refunded**: at least one refunded line, in addition to the other tags. Over the whole history and all "
            "sources.\n\n"
            "Only differences are written, in one transaction, so that an unchanged tag keeps its `since`.",
        ),
    ],
    check_specs=[check.spec() for check in audience_checks()],
)
def audience(
    context: dg.AssetExecutionContext, warehouse: dg.ResourceParam[Warehouse]
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Link clients to customers, and derive their tags from the sales."""
    # Read before the sales, which may lack days that are materialized after this event.
    event_id = last_event_id(context.instance)
    with warehouse.transaction(f"{context.run.run_id[:8]} audience") as transaction:
        transaction.run("mailings/client_customer", "exclude_other_writers")
        (fingerprint,) = transaction.rows("mailings/client_customer", "fingerprint")
        transaction.run("mailings/client_customer", "take_links")
        # The only long statement; nothing is locked before it.
        transaction.run("mailings/client_tag", "take_tags")
        transaction.run("mailings/client_customer", "compare_links")
        transaction.run("mailings/client_tag", "compare_tags")
        transaction.run("mailings/client_customer", "hold_clients")
        unlinked = transaction.run("mailings/client_customer", "unlink")
        linked = transaction.run("mailings/client_customer", "link")
        taken = transaction.run("mailings/client_tag", "clear_gone")
        taken += transaction.run("mailings/client_tag", "clear_unlinked")
        given = transaction.run("mailings/client_tag", "fill_missing")
        (links,) = transaction.rows("mailings/client_customer", "summary")
        (tags,) = transaction.rows("mailings/client_tag", "summary")
        checks = evaluate(transaction, audience_checks(), [])
    yield dg.MaterializeResult(
        asset_key=CLIENT_CUSTOMER,
        metadata={name.replace("_", " "): number for name, number in links.items()}
        | {"links added or changed": linked, "links removed": unlinked},
    )
    yield dg.MaterializeResult(
        asset_key=CLIENT_TAG,
        metadata={name.replace("_", " "): number for name, number in tags.items()}
        | {"tags added": given, "tags removed": taken},
        data_version=dg.DataVersion(str(event_id)),
        tags={LINKS_TAG: fingerprint["links"]},
    )
    yield from checks
