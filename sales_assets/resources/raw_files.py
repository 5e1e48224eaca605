"""The raw files: every fetched file, kept forever and unedited, each with a manifest.

Belongs here: writing a file whole or not at all, and reading it back. A file is stored as
``<file>[_inc]/<day or period>/<sha256 of its contents>.csv``: loaders that write the same contents at once write one
file. No part of the path comes from the network. Files of before 0008 are called ``<time of the fetch>-<random>.csv``.
Does not belong here: downloading (`report_api`), or what the lines mean (`sales_assets.pipeline`).
"""

import contextlib
import datetime as dt
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sales_assets.settings import settings

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class KeptFile:
    """A file that is stored whole. `path` is relative to the raw files' location."""

    path: str
    sha256: str
    bytes: int
    line_count: int
    fetched_at: dt.datetime


class RawFiles:
    """A folder or fsspec URL (RAW_FILES_URL) that only ever grows."""

    def keep(
        self,
        folder: str,
        chunks: Iterable[bytes],
        manifest: Callable[[KeptFile], Mapping[str, object]],
        stored: Mapping[str, str] = MappingProxyType({}),
    ) -> KeptFile:
        """Store contents under `folder`, with ``<path>.json`` beside them made by `manifest`, unless they are stored.

        stored: {sha256: path} of the contents that are recorded already. Such a file is written again only where it is
        missing or damaged. A download that breaks off, or a manifest that can't be written, leaves nothing behind.
        """
        now = dt.datetime.now(dt.UTC)
        digest, size, lines = hashlib.sha256(), 0, 0

        def counted() -> Iterator[bytes]:
            nonlocal size, lines
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                lines += chunk.count(b"\n")
                yield chunk

        with self._part(folder, counted()) as part:
            sha256 = digest.hexdigest()
            path = stored.get(sha256)
            kept = KeptFile(path or f"{folder}/{sha256}.csv", sha256, size, lines, now)
            if path is not None and self._is_intact(path, sha256):
                return kept
            text = json.dumps(manifest(kept), ensure_ascii=False, indent=2, default=str) + "\n"
            with self._part(folder, [text.encode()]) as description:
                part.store(kept.path)
                description.store(f"{kept.path}.json")
            self._force_folder(folder)
            return kept

    def chunks(self, path: str) -> Iterator[bytes]:
        """The kept file, a megabyte at a time."""
        filesystem, root = self._location()
        with filesystem.open(f"{root}/{path}", "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def _force_folder(self, folder: str) -> None:
        """Make new names durable: once for a file and its manifest, because each wait is a good part of their cost."""
        filesystem, root = self._location()
        if isinstance(filesystem, LocalFileSystem):
            _force_to_disk(Path(root) / folder)

    def probe(self) -> str:
        """Check that the location can be written to, and return it without credentials. Raises `OSError`."""
        with self._part("", [b""]):
            return without_credentials(settings().raw_files_location)

    def _is_intact(self, path: str, sha256: str) -> bool:
        digest = hashlib.sha256()
        try:
            for chunk in self.chunks(path):
                digest.update(chunk)
        except FileNotFoundError:
            return False
        return digest.hexdigest() == sha256

    def _location(self) -> tuple[fsspec.AbstractFileSystem, str]:
        filesystem, root = fsspec.core.url_to_fs(settings().raw_files_location)
        return filesystem, str(root).rstrip("/")

    @contextlib.contextmanager
    def _part(self, folder: str, chunks: Iterable[bytes]) -> Iterator["_Part"]:
        """Write chunks under a temporary name in `folder`; what the block does not store is removed."""
        filesystem, root = self._location()
        name = f".{secrets.token_hex(8)}.part"
        local = isinstance(filesystem, LocalFileSystem)
        part = _LocalPart(Path(root), folder, name) if local else _RemotePart(filesystem, root, folder, name)
        try:
            part.write(chunks)
            yield part
        finally:
            part.remove()


class _Part(Protocol):
    """A file under a temporary name, until it is stored."""

    def write(self, chunks: Iterable[bytes]) -> None: ...

    def store(self, path: str) -> None:
        """Give the file its name, in one step: the name stands for whole contents only."""

    def remove(self) -> None: ...


class _LocalPart:
    def __init__(self, root: Path, folder: str, name: str) -> None:
        self._root = root
        self._file = root / folder / name

    def write(self, chunks: Iterable[bytes]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)

    def store(self, path: str) -> None:
        _force_to_disk(self._file)
        self._file.replace(self._root / path)

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


class _RemotePart:
    def __init__(self, filesystem: fsspec.AbstractFileSystem, root: str, folder: str, name: str) -> None:
        self._filesystem = filesystem
        self._root = root
        self._path = f"{root}/{folder}/{name}" if folder else f"{root}/{name}"

    def write(self, chunks: Iterable[bytes]) -> None:
        # Closing a broken upload completes it with what came so far: never under the file's own name.
        with self._filesystem.open(self._path, "wb") as file:
            for chunk in chunks:
                file.write(chunk)

    def store(self, path: str) -> None:
        self._filesystem.mv(self._path, f"{self._root}/{path}")

    def remove(self) -> None:
        if self._filesystem.exists(self._path):
            self._filesystem.rm(self._path)


def without_credentials(location: str) -> str:
    """The location as it may be shown: a user name and password before the host are left out."""
    scheme, separator, rest = location.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else location


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
