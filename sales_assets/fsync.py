"""Force a file or folder to disk."""

import os
from pathlib import Path


def fsync(path: Path) -> None:
    """Force a file's contents, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
