"""Parse integers and decimals in requests from their exact spelling, without coercion.

An integer is a JSON integer or a string of ASCII digits; a decimal may also have a fraction. Exponents, signs in
strings, blanks, underscores, other digits and booleans are refused: `9007199254740993.0` is not an integer, and reading
it through a float would identify another order. Both services share this rule.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

# int() and Decimal() of very long texts take quadratic time; no field allows more digits.
_INTEGER = re.compile(r"[0-9]{1,100}")
_DECIMAL = re.compile(r"[0-9]{1,100}(?:\.[0-9]{1,100})?")


class LiteralFloat(float):
    """A JSON number with a fraction or an exponent, with its original spelling."""

    __slots__ = ("spelling",)
    spelling: str

    def __new__(cls, spelling: str) -> Self:
        self = super().__new__(cls, spelling)
        self.spelling = spelling
        return self


def parse_integer(value: object) -> int:
    """Read an integer from a parsed JSON value or a parameter's text. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    raise ValueError("not a JSON integer or a string of digits")


def parse_decimal(value: object) -> Decimal:
    """Read a decimal from a parsed JSON value or a parameter's text, without rounding. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    text = value.spelling if isinstance(value, LiteralFloat) else value
    if isinstance(text, str) and _DECIMAL.fullmatch(text):
        return Decimal(text)
    raise ValueError("not a JSON number without an exponent or a string of digits")


def _validated_integer(value: Any) -> int:
    try:
        return parse_integer(value)
    except ValueError:
        raise PydanticCustomError(
            "int_parsing", "Input should be an integer: a JSON integer or a string of ASCII digits"
        ) from None


def _validated_decimal(value: Any) -> Decimal:
    try:
        return parse_decimal(value)
    except ValueError:
        raise PydanticCustomError(
            "decimal_parsing",
            "Input should be a decimal: a JSON number without an exponent or a string of ASCII digits, with a point",
        ) from None


IntegerSpelling = BeforeValidator(_validated_integer)
Integer = Annotated[int, IntegerSpelling]
PositiveDecimal = Annotated[
    Decimal,
    BeforeValidator(_validated_decimal),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?$"},
            ]
        }
    ),
]
