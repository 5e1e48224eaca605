"""Process items together, and one by one if that fails, so that a failing item blocks no other."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import psycopg

T = TypeVar("T")


def together_or_one_by_one(
    items: Sequence[T], load: Callable[[Sequence[T]], None], on_failure: Callable[[T, Exception], None]
) -> None:
    """Load items together; if that fails, load each alone and call `on_failure` for those that fail alone.

    `load` must be atomic: one transaction or savepoint. A lost connection (`psycopg.OperationalError`) is raised, since
    single items would fail too.
    """
    if not items:
        return
    try:
        load(items)
    except psycopg.OperationalError:
        raise
    except Exception as error:  # noqa: BLE001  a failing item never blocks the others, however it fails
        if len(items) == 1:
            on_failure(items[0], error)
            return
        for item in items:
            together_or_one_by_one([item], load, on_failure)
