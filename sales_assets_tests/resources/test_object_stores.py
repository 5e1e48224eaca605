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
from sales_assets.resources.raw_files import KeptFile, RawFiles, RawFilesError
from sales_assets.settings import settings
from sales_assets_tests.resources.object_storage import BUCKET, Front, front, objects

__all__ = ["front"]

FOLDER = "orders/2024-10-01"
CONTENTS = b"a,b\n1,2\n"
SHA256 = hashlib.sha256(CONTENTS).hexdigest()
PATH = f"{FOLDER}/{SHA256}.csv"
# From 16 MB on a file is uploaded in parts of 8 MB.
LARGE = random.Random(1).randbytes(1024 * 1024) * 17
LARGE_PATH = f"{FOLDER}/{hashlib.sha256(LARGE).hexdigest()}.csv"

_KEEP = """
import sys
from pathlib import Path
from sales_assets.resources.raw_files import RawFiles
RawFiles().keep(sys.argv[1], [Path(sys.argv[2]).read_bytes()], lambda kept: {"sha256": kept.sha256})
"""


def storage() -> tuple[s3fs.S3FileSystem, str]:
    return RawFiles()._location()


def keep(chunks: Iterable[bytes] = (CONTENTS,)) -> KeptFile:
    return RawFiles().keep(FOLDER, chunks, lambda kept: {"sha256": kept.sha256})


def unfinished_uploads() -> list[str]:
    filesystem, root = storage()
    prefix = root.removeprefix(f"{BUCKET}/")
    return [found["Key"] for found in filesystem.list_multipart_uploads(BUCKET) if found["Key"].startswith(prefix)]


def writes(front: Front) -> list[str]:
    """The requests that change something, without the folder of the test and the id of an upload."""
    root = f"/{storage()[1]}/"
    changing = [request.replace(root, "") for request in front.requests if not request.startswith(("GET", "HEAD"))]
    return [re.sub(r"uploadId=[^&]*&?", "", request).rstrip("?&") for request in changing]


def test_a_small_file_is_one_request_and_kept_again_none(front: Front) -> None:
    kept = keep()
    assert writes(front) == [f"PUT {PATH}", f"PUT {PATH}.json"]
    front.requests.clear()
    assert RawFiles().keep(FOLDER, [CONTENTS], lambda _: {}, {SHA256: kept.path}).path == kept.path
    assert writes(front) == []


def test_a_large_file_is_uploaded_in_parts(front: Front) -> None:
    kept = keep(LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000))
    started, *parts, completed, manifest = writes(front)
    assert started == f"POST {LARGE_PATH}?uploads"
    assert sorted(re.sub(r"&x-id=\w+", "", part) for part in parts) == [
        f"PUT {LARGE_PATH}?partNumber={number}" for number in (1, 2, 3)
    ]
    assert (completed, manifest) == (f"POST {LARGE_PATH}", f"PUT {LARGE_PATH}.json")
    assert b"".join(RawFiles().verified_chunks(kept.path, kept.sha256)) == LARGE
    assert unfinished_uploads() == []


@pytest.mark.parametrize("failing", ["partNumber=3", "POST"])
def test_an_upload_that_breaks_off_leaves_nothing(front: Front, failing: str) -> None:
    """Of a part, and of the request that begins the upload."""
    front.failing = {failing: 503}
    with pytest.raises(RawFilesError, match=rf"^{FOLDER}: can't be written to s3://"):
        keep([LARGE])
    front.failing = {}
    assert objects() == {}
    assert unfinished_uploads() == []


def test_an_existing_object_is_left_alone(front: Front) -> None:
    keep()
    filesystem, root = storage()
    before = filesystem.info(f"{root}/{PATH}", refresh=True)["LastModified"]
    filesystem.rm_file(f"{root}/{PATH}.json")  # as a process that was killed between the two leaves it
    assert keep().path == PATH
    assert sorted(objects()) == [PATH, f"{PATH}.json"]
    assert filesystem.info(f"{root}/{PATH}", refresh=True)["LastModified"] == before


@pytest.mark.parametrize(("path", "contents"), [(PATH, CONTENTS), (LARGE_PATH, LARGE)])
def test_a_damaged_object_is_replaced(front: Front, path: str, contents: bytes) -> None:
    filesystem, root = storage()
    filesystem.pipe_file(f"{root}/{path}", contents[:-1])
    keep([contents])
    assert objects()[path] == contents
    assert unfinished_uploads() == []


def test_an_upload_whose_answer_is_lost_is_done(front: Front) -> None:
    """The driver repeats the request, and is refused because the object exists."""
    front.failing = {"PUT ": "lost"}
    keep()
    assert writes(front) == [f"PUT {PATH}", f"PUT {PATH}", f"PUT {PATH}.json"]


@pytest.mark.parametrize(("moment", "left"), [("partNumber=2", {}), (".json", {LARGE_PATH: LARGE})])
def test_a_process_killed_while_it_uploads_leaves_no_partial_file(
    front: Front, tmp_path: Path, moment: str, left: dict[str, bytes]
) -> None:
    """Between two parts, and between the file and its manifest: nothing or all of the file, and the next one heals."""
    (tmp_path / "large").write_bytes(LARGE)
    front.failing = {moment: "hang"}
    with subprocess.Popen([sys.executable, "-c", _KEEP, FOLDER, tmp_path / "large"]) as process:
        front.wait_for(moment)
        process.kill()
    front.failing = {}
    assert objects() == left
    assert list((settings().sales_home / "tmp").iterdir()) == []
    assert keep([LARGE]).path == LARGE_PATH
    assert sorted(objects()) == [LARGE_PATH, f"{LARGE_PATH}.json"]


@pytest.mark.parametrize("part", ["PUT ", "GET "])
def test_storage_that_hangs_is_given_up(front: Front, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    kept = keep()
    monkeypatch.setenv("RAW_FILES_TIMEOUT", "0.1")
    settings.cache_clear()
    front.failing = {part: "hang"}
    with pytest.raises(RawFilesError, match="Read timeout on endpoint URL"):
        keep([b"another"]) if part == "PUT " else list(RawFiles().chunks(kept.path))
    assert sum(request.startswith(part) for request in front.requests) <= 2 + 4  # the first two of `keep`


@pytest.mark.parametrize(
    ("status", "code", "exists"),
    [
        (412, "PreconditionFailed", True),  # AWS names the condition too
        (409, "ConditionalRequestConflict", True),
        (403, "AccessDenied", False),
        (501, "NotImplemented", False),
    ],
)
def test_other_servers_ways_to_say_that_an_object_exists(status: int, code: str, exists: bool) -> None:
    said = ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "PutObject",
    )
    assert exists_already(translate_boto_error(said)) is exists


def test_the_configuration_of_fsspec_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """FSSPEC_S3 and the like, which fsspec reads when it is imported."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True, "config_kwargs": {"read_timeout": 60, "retries": 2}})
    store = object_store_of("s3://bucket/raw")
    assert store is not None
    assert store.options(15) == {
        "anon": True,
        "config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": 2},
        "max_concurrency": 2,
    }
    assert object_store_of("/folder") is object_store_of("s3") is object_store_of("sftp://host/raw") is None
