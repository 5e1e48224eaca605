"""Uploads to an object store, on a real S3 server: atomic, exclusive, and nothing is uploaded twice."""

import hashlib
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import fsspec
import pytest
import s3fs
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

from sales_assets.resources.object_stores import exists_already, object_store_of
from sales_assets.resources.raw_files import RawFiles, RawFilesError, StoredFile
from sales_assets.settings import settings
from sales_assets_tests.fixtures import stored_files
from sales_assets_tests.resources.object_storage import BUCKET, StorageProxy, storage_proxy

__all__ = ["storage_proxy"]

FOLDER = "orders/2024-10-01"
CONTENTS = b"a,b\n1,2\n"
SHA256 = hashlib.sha256(CONTENTS).hexdigest()
PATH = f"{FOLDER}/{SHA256}.csv"
# Files of 16 MB and more are uploaded in parts of 8 MB.
LARGE = random.Random(1).randbytes(1024 * 1024) * 17
LARGE_PATH = f"{FOLDER}/{hashlib.sha256(LARGE).hexdigest()}.csv"

_KEEP = """
import sys
from pathlib import Path
from sales_assets.resources.raw_files import RawFiles
RawFiles().add(sys.argv[1], [Path(sys.argv[2]).read_bytes()], lambda kept: {"sha256": kept.sha256})
"""


def storage() -> tuple[s3fs.S3FileSystem, str]:
    return RawFiles()._location()


def add(chunks: Iterable[bytes] = (CONTENTS,)) -> StoredFile:
    return RawFiles().add(FOLDER, chunks, lambda stored_file: {"sha256": stored_file.sha256})


def unfinished_uploads() -> list[str]:
    filesystem, root = storage()
    prefix = root.removeprefix(f"{BUCKET}/")
    return [found["Key"] for found in filesystem.list_multipart_uploads(BUCKET) if found["Key"].startswith(prefix)]


def writes(storage_proxy: StorageProxy) -> list[str]:
    """Return the requests that change something, without the folder of the test and upload ids."""
    root = f"/{storage()[1]}/"
    changing = [
        request.replace(root, "") for request in storage_proxy.requests if not request.startswith(("GET", "HEAD"))
    ]
    return [re.sub(r"uploadId=[^&]*&?", "", request).rstrip("?&") for request in changing]


def test_a_small_file_is_one_request_and_a_stored_file_none(storage_proxy: StorageProxy) -> None:
    stored_file = add()
    assert writes(storage_proxy) == [f"PUT {PATH}", f"PUT {PATH}.json"]
    storage_proxy.requests.clear()
    assert RawFiles().add(FOLDER, [CONTENTS], lambda _: {}, {SHA256: stored_file.path}).path == stored_file.path
    assert writes(storage_proxy) == []


def test_a_large_file_is_uploaded_in_parts(storage_proxy: StorageProxy) -> None:
    stored_file = add(LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000))
    started, *parts, completed, manifest = writes(storage_proxy)
    assert started == f"POST {LARGE_PATH}?uploads"
    assert sorted(re.sub(r"&x-id=\w+", "", part) for part in parts) == [
        f"PUT {LARGE_PATH}?partNumber={number}" for number in (1, 2, 3)
    ]
    assert (completed, manifest) == (f"POST {LARGE_PATH}", f"PUT {LARGE_PATH}.json")
    assert b"".join(RawFiles().verified_chunks(stored_file.path, stored_file.sha256)) == LARGE
    assert unfinished_uploads() == []


@pytest.mark.parametrize("failing", ["partNumber=3", "POST"])
def test_a_failed_upload_leaves_nothing(storage_proxy: StorageProxy, failing: str) -> None:
    """The failing request uploads a part or begins the upload."""
    storage_proxy.failing = {failing: 503}
    with pytest.raises(RawFilesError, match=rf"^{FOLDER}: can't be written to s3://"):
        add([LARGE])
    storage_proxy.failing = {}
    assert stored_files() == {}
    assert unfinished_uploads() == []


@pytest.mark.parametrize(("path", "contents"), [(PATH, CONTENTS), (LARGE_PATH, LARGE)])
def test_an_existing_object_is_not_uploaded_again(storage_proxy: StorageProxy, path: str, contents: bytes) -> None:
    """A process may be killed before it writes the manifest. The metadata show that the first upload was kept."""
    filesystem, root = storage()
    filesystem.pipe_file(f"{root}/{path}", contents, Metadata={"writer": "another"})
    assert add([contents]).path == path
    assert sorted(stored_files()) == [path, f"{path}.json"]
    assert filesystem.metadata(f"{root}/{path}", refresh=True) == {"writer": "another"}
    assert unfinished_uploads() == []


@pytest.mark.parametrize(("path", "contents"), [(PATH, CONTENTS), (LARGE_PATH, LARGE)])
def test_a_damaged_object_is_replaced(storage_proxy: StorageProxy, path: str, contents: bytes) -> None:
    filesystem, root = storage()
    filesystem.pipe_file(f"{root}/{path}", contents[:-1])
    add([contents])
    assert stored_files()[path] == contents
    assert unfinished_uploads() == []


def test_an_upload_whose_response_is_lost_succeeds(storage_proxy: StorageProxy) -> None:
    """The driver repeats the request, which is refused because the object exists."""
    storage_proxy.failing = {"PUT ": "lost"}
    add()
    assert writes(storage_proxy) == [f"PUT {PATH}", f"PUT {PATH}", f"PUT {PATH}.json"]


@pytest.mark.parametrize(("moment", "left"), [("partNumber=2", {}), (".json", {LARGE_PATH: LARGE})])
def test_a_process_killed_during_an_upload_leaves_no_partial_file(
    storage_proxy: StorageProxy, tmp_path: Path, moment: str, left: dict[str, bytes]
) -> None:
    """The process is killed between two parts, or between file and manifest; the next upload completes the file."""
    (tmp_path / "large").write_bytes(LARGE)
    storage_proxy.failing = {moment: "hang"}
    with subprocess.Popen([sys.executable, "-c", _KEEP, FOLDER, tmp_path / "large"]) as process:
        storage_proxy.wait_for(moment)
        process.kill()
    storage_proxy.failing = {}
    assert stored_files() == left
    assert list((settings().sales_home / "tmp").iterdir()) == []
    assert add([LARGE]).path == LARGE_PATH
    assert sorted(stored_files()) == [LARGE_PATH, f"{LARGE_PATH}.json"]


@pytest.mark.parametrize("part", ["PUT ", "GET "])
def test_a_request_to_a_hanging_store_fails_after_three_timeouts(
    storage_proxy: StorageProxy, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """An upload and a read each fail after three timeouts."""
    stored_file = add()
    monkeypatch.setenv("RAW_FILES_TIMEOUT", "0.3")
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    settings.cache_clear()
    storage_proxy.requests.clear()
    storage_proxy.failing = {part: "hang"}
    with pytest.raises(RawFilesError, match="Read timeout on endpoint URL"):
        add([b"another"]) if part == "PUT " else list(RawFiles().chunks(stored_file.path))
    assert sum(request.startswith(part) for request in storage_proxy.requests) == 3


@pytest.mark.parametrize(
    ("status", "code", "exists"),
    [
        (412, "PreconditionFailed", True),  # AWS also names the condition
        (409, "ConditionalRequestConflict", True),
        (403, "AccessDenied", False),
        (501, "NotImplemented", False),
    ],
)
def test_responses_of_other_servers_for_an_existing_object_are_recognised(status: int, code: str, exists: bool) -> None:
    client_error = ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "PutObject",
    )
    assert exists_already(translate_boto_error(client_error)) is exists


def test_the_configuration_of_fsspec_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec reads FSSPEC_S3 and similar variables when it is imported."""
    chosen = {"read_timeout": 60, "retries": {"mode": "legacy"}}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True, "config_kwargs": chosen})
    store = object_store_of("s3://bucket/raw")
    assert store is not None
    assert store.options(15) == {
        "anon": True,
        "config_kwargs": {"connect_timeout": 5, **chosen},
        "max_concurrency": 2,
    }
    assert object_store_of("/folder") is object_store_of("s3") is object_store_of("sftp://host/raw") is None
