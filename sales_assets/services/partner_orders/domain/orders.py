"""Values of the order operations: an order, and the outcomes of creating, tracking and cancelling it.

Endpoints, partner client and repository exchange these values; wire formats are in ``schemas`` and ``partner_client``.
"""

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

PRE_ORDER: Literal[1] = 1
RESERVATION: Literal[2] = 2

# Status words of the partner, and the status numbers that callers see.
STATUS_IDS = {"created": 0, "accepted": 1, "delivery": 1, "done": 2, "cancelled": 3, "in_shop": 4}
UNKNOWN_STATUS = -1
CREATED, DONE, CANCELLED = STATUS_IDS["created"], STATUS_IDS["done"], STATUS_IDS["cancelled"]


@dataclass(frozen=True, slots=True)
class Client:
    """The customer. Personal data: sent to the partner; only the phone is stored."""

    name: str
    phone: str
    email: str


@dataclass(frozen=True, slots=True)
class Item:
    """A line of an order; `price` is per piece, in the caller's spelling."""

    their_id: str
    price: Decimal
    count: int
    part: str | int | None = None

    def stored(self, line_no: int) -> dict[str, Any]:
        return {
            "line_no": line_no,
            "their_id": self.their_id,
            "price": str(self.price),
            "count": self.count,
            "part": self.part,
        }

    @classmethod
    def restored(cls, line: dict[str, Any]) -> "Item":
        return cls(line["their_id"], Decimal(line["price"]), line["count"], line["part"])


@dataclass(frozen=True, slots=True)
class Order:
    """An order as requested. Equal orders have equal hashes in both versions of the interface."""

    order_id: int
    date: dt.datetime
    client: Client
    their_pharmacy_id: str
    order_type: Literal[1, 2]
    items: tuple[Item, ...]
    comment: str | None
    extra: dict[str, Any]

    def body_hash(self) -> str:
        """Return the SHA-256 of all fields; prices and times count by value, not by spelling."""
        words = (
            self.date.isoformat(),
            (self.client.name, self.client.phone, self.client.email),
            self.their_pharmacy_id,
            self.order_type,
            [(item.their_id, f"{item.price:.2f}", item.count, item.part) for item in self.items],
            self.comment,
            self.extra,
        )
        return hashlib.sha256(json.dumps(words, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class QuantityError(NamedTuple):
    """Fewer pieces available than ordered; `available` is None if the partner gave no number."""

    their_id: str
    ordered: int
    available: int | None


class PriceError(NamedTuple):
    """A price that differs from the ordered one; both as text."""

    their_id: str
    ordered: str
    available: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The order exists at the partner."""

    their_order_id: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The order was not created at the partner, or this is unknown.

    `partner_error`: the partner failed, or its response was not understood. Otherwise the refusal is the partner's
    final decision. `message` is for people; `in_words`: it contains the partner's own text.
    """

    message: str
    partner_error: bool = False
    quantity_errors: tuple[QuantityError, ...] = ()
    price_errors: tuple[PriceError, ...] = ()
    in_words: bool = False

    def stored(self) -> dict[str, Any]:
        return {
            "message": self.message,
            "partner_error": self.partner_error,
            "quantity_errors": self.quantity_errors,
            "price_errors": self.price_errors,
            "in_words": self.in_words,
        }

    @classmethod
    def restored(cls, stored: dict[str, Any]) -> "Refused":
        return cls(
            stored["message"],
            stored["partner_error"],
            tuple(QuantityError(*error) for error in stored["quantity_errors"]),
            tuple(PriceError(*error) for error in stored["price_errors"]),
            stored.get("in_words", not stored["partner_error"]),  # earlier versions stored none
        )


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """The response to a cancel.

    `rejected`: the partner reports that this order can't be cancelled. `failed`: the cancellation is not confirmed; the
    caller may try again.
    """

    result: Literal["cancelled", "rejected", "failed"]
    message: str = ""

    def stored(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BoughtItem:
    """An item of an order and the number bought."""

    their_item_id: str
    bought_count: int


@dataclass(frozen=True, slots=True)
class Status:
    """The status of an order: our number, the partner's (ours if it has none), and the items bought, if known."""

    status_id: int
    their_status_id: int
    their_items: tuple[BoughtItem, ...] | None
