"""Iterate in background threads: prefetch the items of an iterator, or process several at a time.

Parsing, encoding and waiting for the server release the GIL, so overlapping them makes a load shorter.
"""

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# More threads would wait for the GIL: half of parsing is Python code.
THREADS = 2

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(work: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
    """Yield the results of `work` in the order of the items, using `THREADS` threads.

    The calling thread takes the items, a few ahead, and processes the first one: most files have only one.
    """
    remaining = iter(items)
    for item in itertools.islice(remaining, 1):
        yield work(item)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="parallel_map") as pool:
        working: deque[Future[R]] = deque()
        for item in remaining:
            working.append(pool.submit(work, item))
            if len(working) > THREADS:
                yield working.popleft().result()
        while working:
            yield working.popleft().result()


def prefetch(items: Iterator[T], depth: int = 1) -> Generator[T]:
    """Yield the items of an iterator that runs in a background thread, at most `depth` items ahead.

    An exception of the iterator is raised where its item would have been yielded. The first item is produced in the
    calling thread: most files of a day are one block, for which a thread would cost more than it saves.
    """
    first = list(itertools.islice(items, 2))
    if len(first) < 2:
        yield from first
        return
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=0.2)
            except queue.Full:
                continue
            return

    def produce() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((None, None))
        except BaseException as error:  # noqa: BLE001  raised again in the consuming thread
            put((None, error))

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        while first:  # pop: the list would keep the first items alive until the iteration ends
            yield first.pop(0)
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join()
