"""Prefetching: the same items in the same order, without leftover threads."""

import queue
import threading
from collections.abc import Iterator

import pytest

from sales_assets.pipeline.prefetch import THREADS, parallel_map, prefetch


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_prefetching_yields_the_same_items_in_order(count: int) -> None:
    assert list(prefetch(iter(range(count)))) == list(range(count))


@pytest.mark.parametrize("good", [0, 1, 2, 5])
def test_an_error_is_raised_after_the_items_before_it(good: int) -> None:
    def broken() -> Iterator[int]:
        yield from range(good)
        raise ZeroDivisionError

    taken = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the items before the error are checked
        for item in prefetch(broken()):
            taken.append(item)  # noqa: PERF402
    # The first two items are prepared together, so an error in the second is raised before the first is yielded.
    assert taken == list(range(good if good > 1 else 0))


def test_an_abandoned_iterator_leaves_no_thread() -> None:
    items = prefetch(iter(range(1000)))
    assert next(items) == 0
    assert any(thread.name == "prefetch" for thread in threading.enumerate())
    items.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())


def test_a_slow_consumer_loses_no_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the queue stays full for too long, `put` is tried again."""
    depths: list[int] = []

    class OftenFull(queue.Queue[object]):
        tries = 0

        def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
            self.tries += 1
            if self.tries % 3:
                raise queue.Full
            depths.append(self.maxsize)
            super().put(item, block, timeout)

    monkeypatch.setattr(queue, "Queue", OftenFull)
    assert list(prefetch(iter(range(20)))) == list(range(20))
    assert set(depths) == {1}


def test_an_iterator_that_is_never_closed_does_not_keep_the_process_alive() -> None:
    items = prefetch(iter(range(1000)))
    next(items)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "prefetch")
    items.close()


def test_results_come_in_the_order_of_the_items() -> None:
    """The calling thread processes the first item, which is often the only one."""
    first_is_done = threading.Event()

    def work(number: int) -> tuple[int, bool]:
        if number == 1:
            assert first_is_done.wait(10)
        if number == 2:
            first_is_done.set()
        return number, threading.current_thread() is threading.main_thread()

    assert list(parallel_map(work, range(4))) == [(0, True), (1, False), (2, False), (3, False)]
    assert list(parallel_map(work, [])) == []


def test_only_a_few_items_are_taken_in_advance() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = parallel_map(str, items())
    assert [next(results), next(results)] == ["0", "1"]
    assert len(taken) <= 2 + THREADS
    results.close()


def test_an_error_is_raised_at_the_position_of_its_result() -> None:
    results = parallel_map(lambda number: 1 // (3 - number), range(9))
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
