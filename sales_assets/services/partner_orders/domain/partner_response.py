"""Interpret the partner's responses to create and cancel.

Maps the partner's item errors, and recognizes final refusals of a cancel. No part of a response is dropped: a part that
is not understood becomes a partner_error, in addition to the parts that are.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from sales_assets.services.partner_orders.domain.orders import (
    PRE_ORDER,
    Accepted,
    Item,
    Order,
    PriceError,
    QuantityError,
    Refused,
)

HTTP_ERROR = "HTTP response error"
# Replaces a character of the partner's response that can't be stored.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_WRONG_PRICE = re.compile(r"wrong price: current price is (?P<first>.+?)(?: or (?P<second>.+))?", re.IGNORECASE)
# No known text of the partner is longer; the patterns would take quadratic time on it.
_LONGEST_TEXT = 500
# Thousands separators: spaces of any kind, apostrophes, or the comma or point that is not the decimal one.
_PRICE = re.compile(r"(?P<whole>\d{1,3}(?:(?P<mark>[\s'’.,])\d{3})(?:(?P=mark)\d{3})*|\d+)(?:[.,](?P<cents>\d{1,2}))?")
_NUMBER = re.compile(r"\d+")
_ID_KEYS = ("their_id", "item_id", "id")
_TEXT_KEYS = ("error", "message", "text")
_CANCEL_REFUSED = re.compile(r"cancell?ation\s+(?:is\s+)?not\s+allowed", re.IGNORECASE)
_LONGEST_ID = 256


class UnreadableAnswer(ValueError):
    """Not a valid response; whether the call was carried out is unknown."""


class CancelRefusal(NamedTuple):
    """The partner did not cancel. `final`: the partner states that this order can't be cancelled."""

    message: str
    final: bool


def create_outcome(order: Order, answer: Any) -> Accepted | Refused:
    """Read `{"status":"ok","order_id":...}` or `{"status":"error","errors":...}`. Raises `UnreadableAnswer`."""
    if not isinstance(answer, dict):
        raise UnreadableAnswer("the answer is not an object")
    status = answer.get("status")
    if status == "ok":
        number = answer.get("order_id")
        if isinstance(number, bool) or not isinstance(number, int | str) or not is_id(str(number)):
            raise UnreadableAnswer("the order was made, but the answer has no order_id")
        return Accepted(str(number), order.items)
    if status == "error":
        return _refused(order, answer.get("errors"))
    raise UnreadableAnswer("the answer's status is neither ok nor error")


def cancel_refusal(answer: Any) -> CancelRefusal | None:
    """Read the answer to a cancel: None when the order is cancelled. Raises `UnreadableAnswer`."""
    match answer:
        case {"status": "ok"}:
            return None
        case {"status": "error"}:
            errors = answer.get("errors")
            return CancelRefusal(error_text(errors), any(_CANCEL_REFUSED.search(text) for text in _texts(errors)))
    raise UnreadableAnswer("the answer's status is neither ok nor error")


def error_text(errors: Any) -> str:
    """Return the partner's errors as text for callers; `HTTP_ERROR` if they contain no text."""
    return str(errors) if any(_texts(errors)) else HTTP_ERROR


def is_id(text: str) -> bool:
    """Return whether a text can be the partner's id of an order. One with replaced characters is not that id."""
    return 0 < len(text) <= _LONGEST_ID and text.isprintable() and REPLACEMENT not in text


def parse_price(text: str) -> str | None:
    """Return the price as digits with a decimal point and the cents as written, or None for no price.

    >>> parse_price("1 641,52"), parse_price("750.00"), parse_price("1,641"), parse_price("NONE")
    ('1641.52', '750.00', '1641', None)
    """
    found = _PRICE.fullmatch(text.strip())
    if found is None:
        return None
    whole = re.sub(r"\D", "", found["whole"])
    return f"{whole}.{found['cents']}" if found["cents"] else whole


def _refused(order: Order, errors: Any) -> Refused:
    lines = defaultdict(list)
    for item in order.items:
        lines[item.their_id].append(item)
    partner_error = False
    quantity: dict[QuantityError, None] = {}
    price: dict[PriceError, None] = {}
    for their_id, text in _item_errors(errors, lines.keys()):
        # An error concerns the item, and so each line that orders it.
        found = [_item_error(order, item, text) for item in lines.get(their_id or "", ())]
        partner_error = partner_error or not found
        for error in found:
            match error:
                case QuantityError():
                    quantity[error] = None
                case PriceError():
                    price[error] = None
                case None:
                    partner_error = True
    if not quantity and not price:
        partner_error = True  # refused without a known reason
    return Refused(error_text(errors), partner_error, tuple(quantity), tuple(price), in_words=any(_texts(errors)))


def _texts(errors: Any) -> Iterator[str]:
    """Yield the non-blank texts in the partner's errors, without the keys."""
    match errors:
        case str() if errors.strip():
            yield errors
        case dict():
            for value in errors.values():
                yield from _texts(value)
        case list():
            for value in errors:
                yield from _texts(value)


def _item_errors(errors: Any, ids: Collection[str], about: str | None = None) -> Iterator[tuple[str | None, str]]:
    """Yield (their_id or None, text) of each error: by item, in objects that name their item, or as plain texts.

    Nesting may have any depth; `about` is the item named by an outer level. Every text is yielded, also one without an
    item or about an item that was not ordered.
    """
    match errors:
        case dict():
            # An id that was not ordered matches no line, at any depth.
            about = next((str(errors[key]) for key in _ID_KEYS if key in errors), about)
            texts = [errors[key] for key in _TEXT_KEYS if key in errors]
            if texts:
                yield from _item_errors(texts[0], ids, about)
                return
            for key, value in errors.items():
                if key in ids:
                    yield from _item_errors(value, ids, key)
                elif key not in _ID_KEYS:
                    yield from _item_errors(value, ids, None if _NUMBER.fullmatch(key) else about)
        case list():
            for error in errors:
                yield from _item_errors(error, ids, about)
        case str() if (named := errors.partition(":")[0].rstrip()) in ids:
            yield named, errors.partition(":")[2].lstrip()
        case _:
            yield about, str(errors)


def _item_error(order: Order, item: Item, text: str) -> QuantityError | PriceError | None:
    if len(text) > _LONGEST_TEXT:
        return None
    said = text.strip().rstrip(".").casefold()
    if said == "item not found":
        return QuantityError(item.their_id, item.count, 0)
    if said == "wrong quantity":
        return QuantityError(item.their_id, item.count, None)
    found = _WRONG_PRICE.fullmatch(text.strip())
    if found is None:
        return None
    # Two prices: the first for stock in the pharmacy, the second for delivery to it.
    current = found["second"] if order.order_type == PRE_ORDER else found["first"]
    if current is None:
        return None
    if current.strip().upper() == "NONE":
        return QuantityError(item.their_id, item.count, 0)
    available = parse_price(current)
    return PriceError(item.their_id, str(item.price), available) if available is not None else None
