"""Prefetching yields the same items in order and leaves no thread behind."""

import threading
from collections.abc import Iterator

import pytest

from sales_assets.pipeline.prefetch import prefetch


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_the_same_items_in_order(count: int) -> None:
    assert list(prefetch(iter(range(count)))) == list(range(count))


@pytest.mark.parametrize("good", [0, 1, 2, 5])
def test_an_error_comes_after_what_was_made_before_it(good: int) -> None:
    def broken() -> Iterator[int]:
        yield from range(good)
        raise ZeroDivisionError

    taken = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what came before the error is to be seen
        for item in prefetch(broken()):
            taken.append(item)  # noqa: PERF402
    # The first two are made together: an error in the second is told before the first.
    assert taken == list(range(good if good > 1 else 0))


def test_who_takes_no_more_leaves_no_thread() -> None:
    items = prefetch(iter(range(1000)))
    assert next(items) == 0
    assert any(thread.name == "prefetch" for thread in threading.enumerate())
    items.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
