"""Tables that the services write and assets read: orders' events, clients and messages."""

import dagster as dg

OUTBOX = dg.AssetKey(["sources", "orders", "outbox"])
CLIENT = dg.AssetKey(["sources", "mailings", "client"])
MESSAGE = dg.AssetKey(["sources", "mailings", "message"])

outbox = dg.AssetSpec(
    OUTBOX,
    description="Events of partner orders: one per order and type (accepted, done, cancelled), written by "
    "the service in the transaction that changes the order. Its relay publishes them to RabbitMQ, and its consumer "
    "stages them.",
)
client = dg.AssetSpec(
    CLIENT,
    description="Clients that mailings go to, with their phone and an optional tag. Written by the mailings service, "
    "through its API and its admin page.",
)
message = dg.AssetSpec(
    MESSAGE,
    description="A row per client of a started mailing, with its status: Pending, SENT, FAILED or TIMEOUT. Written by "
    "the mailings service and its workers.",
)
