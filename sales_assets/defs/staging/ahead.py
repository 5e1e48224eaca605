"""Two things at once: items made in a thread beside the one that works on them.

Parsing and encoding release Python's lock, and so does waiting for the server: a load is shorter by the overlap.
Does not belong here: what the items are.
"""

import itertools
import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int = 1) -> Generator[T]:
    """The same items, made in a thread beside the one that works on them; a few wait in between.

    Less than two are made here: most files of a day are one block, and a thread would cost more than it saves.
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

    def make() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((None, None))
        except BaseException as error:  # noqa: BLE001  it is raised where the items are taken
            put((None, error))

    thread = threading.Thread(target=make, name="reading ahead", daemon=True)
    thread.start()
    try:
        while first:  # not from the list: it would keep them for as long as there are others
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
