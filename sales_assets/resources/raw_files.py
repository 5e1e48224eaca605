"""Store of raw files: every fetched file is kept permanently, with a manifest. Only erased names are removed.

Files are written atomically and read with their checksum verified; errors of all storage libraries become one type.
A file is stored as ``<file>[_inc]/<day or period>/<sha256 of its contents>.csv``, so that concurrent loaders of the
same contents write one file. A file from which names were erased is called ``<sha256>-<number of its fetch>.csv``,
because two files may have become equal. No part of the path comes from the network. Files from before migration 0008
are called ``<time of the fetch>-<random>.csv``.

The name is known only after the download, so a file is first written to a temporary one: in its folder, to be renamed;
for other storage on the local disk, to be uploaded. `sales_assets.resources.object_stores` has what depends on the
driver.
"""

import contextlib
import datetime as dt
import hashlib
import json
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sales_assets.fsync import fsync
from sales_assets.resources.object_stores import ObjectStore, exists_already, object_store_of
from sales_assets.scrubbing import scrubbed
from sales_assets.settings import settings

_CHUNK = 1024 * 1024
# The drivers' defaults, up to 50 MB, would be held for each file that is being read.
_READ_AHEAD = 8 * 1024 * 1024
_PROBE = ".probe"
_LONGEST_REASON = 300


class RawFilesError(OSError):
    """A raw file can't be read or written. The message is one sentence with file and reason, without credentials."""


class ChecksumMismatch(RawFilesError):
    """A raw file differs from the fetched one: changed, truncated or replaced."""


@dataclass(frozen=True)
class StoredFile:
    """A completely written raw file. `path` is relative to the raw files' location."""

    path: str
    sha256: str
    bytes: int
    line_count: int
    fetched_at: dt.datetime


class RawFiles:
    """A folder or fsspec URL (RAW_FILES_URL). Files are added; only the erasure of names replaces and deletes them."""

    def add(
        self,
        folder: str,
        chunks: Iterable[bytes],
        manifest: Callable[[StoredFile], Mapping[str, object]],
        stored: Mapping[str, str] = MappingProxyType({}),
        suffix: str = "",
    ) -> StoredFile:
        """Store contents under `folder`, with `manifest` as ``<path>.json``, unless they are stored already.

        stored: {sha256: path} of recorded contents. A recorded file is written again only if it is missing or damaged.
        suffix: part of the file's name after the hash.
        An interrupted download or upload leaves nothing behind. If the manifest can't be written, at most the complete
        file remains, which the next call finds. An error of `chunks` is raised unchanged. Raises `RawFilesError`.
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
            kept = StoredFile(path or f"{folder}/{sha256}{suffix}.csv", sha256, size, lines, now)
            if path is not None and self._is_intact(path, sha256):
                return kept
            text = json.dumps(manifest(kept), ensure_ascii=False, indent=2, default=str) + "\n"
            with self._part(folder, [text.encode()]) as description:
                try:
                    part.create(kept.path)
                except FileExistsError:
                    if not self._is_intact(kept.path, sha256):
                        part.replace(kept.path)
                description.replace(f"{kept.path}.json")
            self._force_folder(folder)
            return kept

    def chunks(self, path: str) -> Generator[bytes]:
        """Read a raw file a megabyte at a time, without verification. Raises `RawFilesError`."""
        with _storage_errors(f"{path}: can't be read from {settings().raw_files_location}"):
            filesystem, root = self._location()
            with filesystem.open(f"{root}/{path}", "rb", block_size=_READ_AHEAD) as file:
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

    def manifest(self, path: str) -> dict[str, object]:
        """Read the manifest of a raw file; empty if it is missing or no JSON object. Raises `RawFilesError`."""
        try:
            found = json.loads(b"".join(self.chunks(f"{path}.json")))
        except ValueError:
            return {}
        except RawFilesError:
            if f"{path}.json" in self.paths():
                raise
            return {}
        return found if isinstance(found, dict) else {}

    def paths(self) -> list[str]:
        """List everything that is stored: raw files, manifests, and temporary files of killed writers.

        Raises `RawFilesError`.
        """
        with _storage_errors(f"{settings().raw_files_location} can't be listed"):
            filesystem, root = self._location()
            filesystem.invalidate_cache()
            if not filesystem.exists(root):
                return []
            return sorted(path.removeprefix(root).lstrip("/") for path in filesystem.find(root))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete stored files; a missing file is not an error. Raises `RawFilesError`."""
        filesystem, root = self._location()
        for path in paths:
            with _storage_errors(f"{path} can't be deleted from {settings().raw_files_location}"):
                try:
                    filesystem.rm_file(f"{root}/{path}")
                except FileNotFoundError:
                    continue
                self._force_folder(path.rpartition("/")[0])

    def probe(self) -> str:
        """Test that the location is writable, and return it. Raises `RawFilesError`."""
        location = settings().raw_files_location
        with _storage_errors(f"{location} can't be written to"), self._part("", [b""]) as part:
            part.probe()
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
        location = settings().raw_files_location
        store = object_store_of(location)
        seconds = settings().raw_files_timeout
        filesystem, root = store.open(location, seconds) if store else fsspec.core.url_to_fs(location)
        return filesystem, str(root).rstrip("/")

    @contextlib.contextmanager
    def _part(self, folder: str, chunks: Iterable[bytes]) -> Iterator["_Part"]:
        """Write chunks to a temporary file; delete it unless the block stores it."""
        filesystem, root = self._location()
        part: _Part
        if isinstance(filesystem, LocalFileSystem):
            part = _LocalPart(Path(root), folder)
        else:
            part = _RemotePart(filesystem, root, object_store_of(settings().raw_files_location))
        try:
            part.write(chunks)
            yield part
        finally:
            part.remove()


class _Part(Protocol):
    """A temporary file, until it is stored."""

    def write(self, chunks: Iterable[bytes]) -> None: ...

    def create(self, path: str) -> None:
        """Store the file atomically, so that a final name always means complete contents.

        Raises FileExistsError if the name exists and the storage can detect it.
        """

    def replace(self, path: str) -> None:
        """Store the file atomically, replacing an existing one."""

    def probe(self) -> None:
        """Test that a file can be stored, and leave nothing behind."""

    def remove(self) -> None: ...


def _temporary_name() -> str:
    return f".{secrets.token_hex(8)}.part"


class _LocalPart:
    """Temporary file in the final folder, renamed when it is stored."""

    def __init__(self, root: Path, folder: str) -> None:
        self._root = root
        self._file = root / folder / _temporary_name()

    def write(self, chunks: Iterable[bytes]) -> None:
        _make_folder(self._file.parent)
        with self._file.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)

    def replace(self, path: str) -> None:
        fsync(self._file)
        self._file.replace(self._root / path)

    create = replace

    def probe(self) -> None:
        """Do nothing: writing the temporary file was the test."""

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)


class _RemotePart:
    """Temporary file on the local disk, uploaded when it is stored."""

    def __init__(self, filesystem: fsspec.AbstractFileSystem, root: str, store: ObjectStore | None) -> None:
        self._filesystem = filesystem
        self._root = root
        self._store = store
        folder = settings().sales_home / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        # It has no name, so that not even `kill -9` leaves it behind; drivers open it by its descriptor.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def write(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self._file.write(chunk)
        self._file.flush()

    def create(self, path: str) -> None:
        if self._store is None:
            self.replace(path)
            return
        try:
            self._upload(path, mode="create")
        except Exception as error:
            if exists_already(error):
                raise FileExistsError(path) from None
            raise

    def replace(self, path: str) -> None:
        if self._store is not None:
            self._upload(path, mode="overwrite")
            return
        # A file of other storage is visible while it is written.
        folder = f"{path.rpartition('/')[0]}/" if "/" in path else ""
        temporary = f"{folder}{_temporary_name()}"
        try:
            self._upload(temporary)
            self._filesystem.mv(f"{self._root}/{temporary}", f"{self._root}/{path}")
        except BaseException:
            self._delete(temporary)
            raise

    def probe(self) -> None:
        # One name, so that a location whose files can't be deleted has one such object.
        self._upload(_PROBE)
        self._delete(_PROBE)

    def remove(self) -> None:
        self._file.close()

    def _upload(self, path: str, **options: object) -> None:
        self._file.seek(0)  # a file opened by a descriptor may share its position
        limits = self._store.upload if self._store else {}
        self._filesystem.put_file(f"/dev/fd/{self._file.fileno()}", f"{self._root}/{path}", **limits, **options)

    def _delete(self, path: str) -> None:
        # An unavailable storage fails here too; report the first error.
        with contextlib.suppress(Exception):
            self._filesystem.rm_file(f"{self._root}/{path}")


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
