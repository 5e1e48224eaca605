"""Raw files: a name always refers to a complete file, in any storage."""

import hashlib
import json
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import dagster as dg
import fsspec
import pytest
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.memory import MemoryFileSystem

from sales_assets import settings as settings_module
from sales_assets.resources.raw_files import RawFiles, RawFilesError, StoredFile
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder, fetch_report, load_days

Query = Callable[..., list[tuple[object, ...]]]

DAY = "2024-10-01"


@pytest.fixture(params=["folder", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield locations of raw files: a folder with an unusual name, and a store that is not a file system."""
    url = str(tmp_path / "raw [1]*") if request.param == "folder" else f"memory://{tmp_path.name}/raw"
    monkeypatch.setenv("RAW_FILES_URL", url)
    settings_module.settings.cache_clear()
    yield url
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


def list_files(location: str) -> list[str]:
    filesystem, root = fsspec.core.url_to_fs(location)
    return [str(path).removeprefix(root).lstrip("/") for path in filesystem.find(root)]


def add(folder: str, chunks: Iterable[bytes]) -> StoredFile:
    return RawFiles().add(folder, chunks, lambda stored_file: {"sha256": stored_file.sha256})


def test_a_file_is_stored_unchanged_with_its_checksum_size_and_lines(location: str) -> None:
    chunks = [b"a,b\r\n", b"", b"1,2\n\xff", b"x"]
    stored_file = add("folder/2024-10-01", iter(chunks))
    assert b"".join(RawFiles().chunks(stored_file.path)) == b"".join(chunks)
    assert stored_file.sha256 == hashlib.sha256(b"".join(chunks)).hexdigest()
    assert (stored_file.bytes, stored_file.line_count) == (11, 2)
    assert sorted(list_files(location)) == [stored_file.path, f"{stored_file.path}.json"]
    assert json.loads(b"".join(RawFiles().chunks(f"{stored_file.path}.json"))) == {"sha256": stored_file.sha256}


def test_an_interrupted_source_leaves_nothing(location: str) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        add("folder", broken())
    add("another", [b"so that the place exists"])
    assert [path for path in list_files(location) if not path.startswith("another")] == []


def test_fetches_within_one_second_are_stored_as_separate_files(location: str) -> None:
    stored_file = [add("folder", [text]) for text in (b"1", b"2", b"3")]
    names = [name for name in list_files(location) if name.endswith(".csv")]
    assert sorted(names) == sorted(file.path for file in stored_file)
    assert [b"".join(RawFiles().chunks(file.path)) for file in stored_file] == [b"1", b"2", b"3"]


def test_a_probe_of_the_location_leaves_nothing(location: str) -> None:
    assert RawFiles().probe() == location
    assert list_files(location) == []


def test_a_day_is_loaded_from_download_to_mart_with_a_manifest(
    location: str, reports: ReportFolderBuilder, report_api: ReportApi, instance: dg.DagsterInstance, query: Query
) -> None:
    reports.increment(DAY, [Order("a" * 32)])
    assert fetch_report(instance).success
    assert load_days(instance, DAY).success
    ((path, sha256),) = query("SELECT path, sha256 FROM raw.fetch")
    assert query("SELECT file FROM mart.f_sales_lines") == [(path,)]
    assert sorted(list_files(location)) == [path, f"{path}.json"]
    manifest = json.loads(b"".join(RawFiles().chunks(f"{path}.json")))
    assert manifest["sha256"] == sha256 == hashlib.sha256(b"".join(RawFiles().chunks(str(path)))).hexdigest()
    assert (manifest["file"], manifest["day"], manifest["lines"]) == ("user_orders_log", DAY, 2)


def test_an_unwritable_location_fails_the_day_with_a_reason(
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    instance: dg.DagsterInstance,
    query: Query,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reports.increment(DAY, [Order("a" * 32)])
    assert fetch_report(instance).success
    place = tmp_path / "raw"
    if os.geteuid() == 0:
        place.write_text("root may write to every folder, but not below a file")
    else:
        place.mkdir(mode=0o500)
    monkeypatch.setenv("RAW_FILES_URL", str(place))
    settings_module.settings.cache_clear()
    run = load_days(instance, DAY)
    assert not run.success
    (failure,) = [event.step_failure_data for event in run.all_events if event.is_step_failure]
    assert failure.user_failure_data is not None
    description = str(failure.user_failure_data.description)
    reason = "Not a directory" if os.geteuid() == 0 else "Permission denied"
    assert f"\n{DAY}: user_orders_log_inc/{DAY}: can't be written to {place}: {reason}" in description
    assert query("SELECT outcome FROM raw.delivery WHERE kind = 'increment'") == [("failed",)]


def test_a_name_appears_only_after_its_contents_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The expected calls: fsync of the complete file, rename, and finally fsync of the folder with the new names."""
    monkeypatch.setenv("RAW_FILES_URL", str(tmp_path / "raw"))
    settings_module.settings.cache_clear()
    (tmp_path / "raw").mkdir()
    calls: list[tuple[str, str, int]] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        name = re.sub(r"\.[0-9a-f]+\.part$", "part", str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        calls.append(("fsync", name, 0 if Path(name).is_dir() else os.fstat(descriptor).st_size))

    def recorded_replace(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        replace(source, target)
        calls.append(("rename", str(target), 0))

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    for number in (1, 2):
        calls.clear()
        stored_file = add("file_inc/2024-10-01", [b"some", b" bytes\n"])
        path = f"{tmp_path}/raw/{stored_file.path}"
        manifest = Path(f"{path}.json").stat().st_size
        folder = f"{tmp_path}/raw/file_inc/2024-10-01"
        new_folders = [("fsync", f"{tmp_path}/raw/file_inc", 0), ("fsync", f"{tmp_path}/raw", 0)]
        assert calls == [
            *(new_folders if number == 1 else []),
            ("fsync", f"{folder}/part", 11),
            ("rename", path, 0),
            ("fsync", f"{folder}/part", manifest),
            ("rename", f"{path}.json", 0),
            ("fsync", folder, 0),
        ]


class FailingStore(MemoryFileSystem):  # type: ignore[misc]
    """A store whose files all fail with `error`, as files of real stores may."""

    protocol = "failing"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    error: ClassVar[Exception]

    def _open(self, *_: object, **__: object) -> None:
        # The cause has more details than the error itself.
        raise self.error from ValueError("signed with canary")


class _OtherError(Exception):
    """An error based directly on Exception, as in botocore, gcsfs, adlfs and aiohttp."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (_OtherError("GET https://host/x?sig=canary\nrefused"), "_OtherError: GET https://host/x refused"),
        (PermissionError("no access for https://key:canary@host"), "PermissionError: no access for https://host"),
        (FileNotFoundError(2, "The specified bucket does not exist", "b"), "The specified bucket does not exist"),
        (FSTimeoutError(), "FSTimeoutError:"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (aiohttp.ClientPayloadError("token=canary"), "ClientPayloadError: token=***"),
        (KeyError("x" * 1000), "KeyError: '" + "x" * 289),
    ],
)
def test_every_error_of_a_storage_library_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    monkeypatch.setattr(FailingStore, "error", error, raising=False)
    fsspec.register_implementation("failing", FailingStore, clobber=True)
    monkeypatch.setenv("RAW_FILES_URL", "failing://bucket")
    settings_module.settings.cache_clear()
    with pytest.raises(RawFilesError) as reading:
        list(RawFiles().chunks("a/b.csv"))
    assert str(reading.value) == f"a/b.csv: can't be read from failing://bucket: {reason}"
    with pytest.raises(RawFilesError, match=r"^failing://bucket can't be written to: ") as probing:
        RawFiles().probe()
    with pytest.raises(RawFilesError, match=r"^folder: can't be written to failing://bucket: ") as writing:
        add("folder", [b"x"])
    for raised in (reading, probing, writing):
        # Dagster stores what Python prints of an exception: with its causes, unless the chain is cut.
        assert "canary" not in "".join(traceback.format_exception(raised.value)).replace('"signed with canary"', "")
