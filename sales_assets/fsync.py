"""Write files and folders durably: complete on disk under their final name, or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def fsync(path: Path) -> None:
    """Force a file's contents, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield a temporary path next to `target`, for a file or folder, and rename it durably to `target` at the end.

    An existing file is replaced; an existing folder is an error. If the block raises, the temporary file or folder is
    deleted. Raises `NotADirectoryError` if the target's parent isn't a folder.
    """
    if not target.parent.is_dir():
        raise NotADirectoryError(f"{target.parent} is not a folder")
    temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.part"
    try:
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            fsync(written)
        temporary.replace(target)
        fsync(target.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
