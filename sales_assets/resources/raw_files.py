"""The door to the raw files: every fetched file, kept for ever and unedited, each with a manifest.

Belongs here: writing a file whole or not at all, and reading it back. A file lies under
``<file>[_inc]/<day or period>/<time of the fetch>-<random>.csv``; no part of the path comes from the network.
Does not belong here: downloading (`report_api`), or what the lines mean (`sales_assets.schemas`).
"""

import datetime as dt
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sales_assets.settings import settings

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class KeptFile:
    """A file that was written whole. `path` is relative to the raw files' location."""

    path: str
    sha256: str
    bytes: int
    line_count: int
    fetched_at: dt.datetime


class RawFiles:
    """A folder or fsspec URL (RAW_FILES_URL) that only ever grows."""

    def keep(
        self, folder: str, chunks: Iterable[bytes], manifest: Callable[[KeptFile], Mapping[str, object]]
    ) -> KeptFile:
        """Write a file under `folder`, and ``<path>.json`` beside it with what `manifest` tells of the kept file.

        Returns where it lies. A download that breaks off leaves nothing under its name; a manifest that can't be
        written leaves the file without one, which nobody has recorded.
        """
        now = dt.datetime.now(dt.UTC)
        # The random part keeps two fetches of one second apart.
        path = f"{folder}/{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.csv"
        digest, size, lines = hashlib.sha256(), 0, 0

        def counted() -> Iterator[bytes]:
            nonlocal size, lines
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                lines += chunk.count(b"\n")
                yield chunk

        def kept() -> KeptFile:
            return KeptFile(path, digest.hexdigest(), size, lines, now)

        def described() -> Iterator[bytes]:
            text = json.dumps(manifest(kept()), ensure_ascii=False, indent=2, default=str) + "\n"
            yield text.encode()

        self._write({path: counted(), f"{path}.json": described()})
        return kept()

    def chunks(self, path: str) -> Iterator[bytes]:
        """The kept file, a megabyte at a time."""
        filesystem, root = self._location()
        with filesystem.open(f"{root}/{path}", "rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def probe(self) -> str:
        """Where the files lie, after making sure that the place can be written to. Raises `OSError`."""
        filesystem, root = self._location()
        name = f".probe-{secrets.token_hex(4)}"
        self._write({name: [b""]})
        filesystem.rm(f"{root}/{name}")
        return without_credentials(settings().raw_files_location)

    def _location(self) -> tuple[fsspec.AbstractFileSystem, str]:
        filesystem, root = fsspec.core.url_to_fs(settings().raw_files_location)
        return filesystem, str(root).rstrip("/")

    def _write(self, files: Mapping[str, Iterable[bytes]]) -> None:
        """Write files of one folder, one after the other."""
        filesystem, root = self._location()
        if isinstance(filesystem, LocalFileSystem):
            _write_local({Path(root) / path: chunks for path, chunks in files.items()})
            return
        for path, chunks in files.items():
            # Closing a broken upload would complete it with what came so far: nothing is written under the name itself.
            part = f"{root}/{path}.part"
            try:
                with filesystem.open(part, "wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                filesystem.mv(part, f"{root}/{path}")
            except BaseException:
                if filesystem.exists(part):
                    filesystem.rm(part)
                raise


def without_credentials(location: str) -> str:
    """The location as it may be shown: a user name and password before the host are left out."""
    scheme, separator, rest = location.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else location


def _write_local(files: Mapping[Path, Iterable[bytes]]) -> None:
    """Write each beside its name, force it to disk, then rename: the name stands for a whole file only.

    The folder is forced to disk once, at the end: a day has eight files, and each wait is a good part of its cost.
    """
    folder = next(iter(files)).parent
    folder.mkdir(parents=True, exist_ok=True)
    for path, chunks in files.items():
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
