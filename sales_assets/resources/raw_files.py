"""Raw files: every fetched file, kept for ever and unedited, each with a manifest.

Files are written atomically and read with their checksum verified; errors of all storage libraries become one type.
A file is stored as ``<file>[_inc]/<day or period>/<sha256 of its contents>.csv``, so that concurrent loaders of the
same contents write one file. No part of the path comes from the network. Files from before migration 0008 are called
``<time of the fetch>-<random>.csv``.
"""

import contextlib
import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sales_assets.fsync import fsync
from sales_assets.scrubbing import scrubbed
from sales_assets.settings import settings

_CHUNK = 1024 * 1024
_LONGEST_REASON = 300


class RawFilesError(OSError):
    """A raw file can't be read or written. The message is one sentence with file and reason, without credentials."""


class ChecksumMismatch(RawFilesError):
    """A raw file differs from the fetched one: changed, truncated or replaced."""


@dataclass(frozen=True)
class KeptFile:
    """A completely written raw file. `path` is relative to the raw files' location."""

    path: str
    sha256: str
    bytes: int
    line_count: int
    fetched_at: dt.datetime


class RawFiles:
    """A folder or fsspec URL (RAW_FILES_URL) to which files are only ever added."""

    def keep(
        self,
        folder: str,
        chunks: Iterable[bytes],
        manifest: Callable[[KeptFile], Mapping[str, object]],
        stored: Mapping[str, str] = MappingProxyType({}),
    ) -> KeptFile:
        """Store contents under `folder`, with `manifest` as ``<path>.json``, unless they are stored already.

        stored: {sha256: path} of the recorded contents. Such a file is written again only if it is missing or damaged.
        An interrupted download, or a manifest that can't be written, leaves nothing behind; an error of `chunks` is
        raised unchanged. Raises `RawFilesError`.
        """
        now = dt.datetime.now(dt.UTC)
        digest, size, lines = hashlib.sha256(), 0, 0

        def counted() -> Iterator[bytes]:
            nonlocal size, lines
            try:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    lines += chunk.count(b"\n")
                    yield chunk
            except Exception as error:  # noqa: BLE001  raised again by `_storage_errors`, however the download broke
                raise _SourceError(error) from None

        with (
            _storage_errors(f"{folder}: can't be written to {settings().raw_files_location}"),
            self._part(folder, counted()) as part,
        ):
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

    def chunks(self, path: str) -> Generator[bytes]:
        """Read a raw file a megabyte at a time, without verification. Raises `RawFilesError`."""
        with _storage_errors(f"{path}: can't be read from {settings().raw_files_location}"):
            filesystem, root = self._location()
            with filesystem.open(f"{root}/{path}", "rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk

    def verified_chunks(self, path: str, sha256: str) -> Generator[bytes]:
        """Read a raw file and, at its end, raise `ChecksumMismatch` unless it has the checksum recorded at its fetch.

        The data is valid only once the generator is exhausted. Raises `RawFilesError`.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks(path):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != sha256:
            raise ChecksumMismatch(
                f"{path}: the raw file was changed or truncated since it was fetched "
                f"(its SHA-256 is {digest.hexdigest()}, recorded was {sha256})"
            )

    def probe(self) -> str:
        """Test that the location is writable, and return it. Raises `RawFilesError`."""
        location = settings().raw_files_location
        with _storage_errors(f"{location} can't be written to"), self._part("", [b""]):
            return location

    def _is_intact(self, path: str, sha256: str) -> bool:
        try:
            for _ in self.verified_chunks(path, sha256):
                pass
        except RawFilesError:
            return False
        return True

    def _force_folder(self, folder: str) -> None:
        """Sync the folder: once for a file and its manifest, because each sync is a large part of their cost."""
        filesystem, root = self._location()
        if isinstance(filesystem, LocalFileSystem):
            fsync(Path(root) / folder)

    def _location(self) -> tuple[fsspec.AbstractFileSystem, str]:
        filesystem, root = fsspec.core.url_to_fs(settings().raw_files_location)
        return filesystem, str(root).rstrip("/")

    @contextlib.contextmanager
    def _part(self, folder: str, chunks: Iterable[bytes]) -> Iterator["_Part"]:
        """Write chunks under a temporary name in `folder`; delete them unless the block stores them."""
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
        """Rename the file atomically, so that a final name always means complete contents."""

    def remove(self) -> None: ...


class _LocalPart:
    def __init__(self, root: Path, folder: str, name: str) -> None:
        self._root = root
        self._file = root / folder / name

    def write(self, chunks: Iterable[bytes]) -> None:
        _make_folder(self._file.parent)
        with self._file.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)

    def store(self, path: str) -> None:
        fsync(self._file)
        self._file.replace(self._root / path)

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


class _RemotePart:
    def __init__(self, filesystem: fsspec.AbstractFileSystem, root: str, folder: str, name: str) -> None:
        self._filesystem = filesystem
        self._root = root
        self._path = f"{root}/{folder}/{name}" if folder else f"{root}/{name}"
        self._is_written = False

    def write(self, chunks: Iterable[bytes]) -> None:
        # Closing a broken upload completes it with the bytes so far: never under the file's own name.
        with self._filesystem.open(self._path, "wb") as file:
            self._is_written = True
            for chunk in chunks:
                file.write(chunk)

    def store(self, path: str) -> None:
        self._filesystem.mv(self._path, f"{self._root}/{path}")
        self._is_written = False

    def remove(self) -> None:
        if self._is_written:
            # An unavailable storage fails here too; report the first error.
            with contextlib.suppress(Exception):
                self._filesystem.rm(self._path)


class _SourceError(Exception):
    """Wrapper that carries an error of the caller's chunks through the storage library's code."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextlib.contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    """Raise `RawFilesError` for every error of a storage library.

    botocore, aiohttp, gcsfs and adlfs have their own base classes, fsspec raises ImportError and ValueError for a
    location without a driver. The original error is not chained: its text and its cause's may hold keys and signed
    links, and Dagster stores whole chains.
    """
    try:
        yield
    except _SourceError as source:
        raise source.error from source.error.__cause__
    except RawFilesError:
        raise
    except Exception as error:  # noqa: BLE001  every storage library has its own kinds
        raise RawFilesError(f"{what}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Put a library's message on one line, without credentials."""
    said = error.strerror if isinstance(error, OSError) else None
    text = " ".join((said or f"{type(error).__name__}: {error}").split())
    return scrubbed(text)[:_LONGEST_REASON]


def _make_folder(folder: Path) -> None:
    """Create a folder durably: a new folder's name is an entry of its parent, which has to reach the disk too."""
    parents = [path.parent for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for parent in parents:
        fsync(parent)
