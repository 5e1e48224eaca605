"""Drivers of object stores: timeouts, memory limits of uploads, and detection of existing objects.

s3fs, gcsfs and adlfs upload a file by ``put_file``: in one request or, if it is larger, in parts that become visible
together; an error aborts the parts. ``mode="create"`` is ``If-None-Match: *`` (gcsfs: ``ifGenerationMatch=0``) on the
request that makes the object visible. ``open(..., "xb", autocommit=False)`` is not used: adlfs ignores ``autocommit``
and would complete a broken upload when the file is closed, and s3fs takes three requests instead of one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import fsspec

# Six files are uploaded at a time. S3's limit of 10 000 parts allows files of up to 80 GB.
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_LONGEST_CONNECT_SECONDS = 5

Options = Mapping[str, object]


@dataclass(frozen=True)
class ObjectStore:
    """Options of a driver: `limits` for a timeout in seconds, `upload` for each file, `attributes` set once."""

    protocols: tuple[str, ...]
    limits: Callable[[float], Options]
    upload: Options
    attributes: Options

    def open(self, location: str, seconds: float) -> tuple[fsspec.AbstractFileSystem, str]:
        """Return the file system of a location and the path in it. `seconds`: timeout without a received byte."""
        filesystem, root = fsspec.core.url_to_fs(location, **self.options(seconds))
        for name, value in self.attributes.items():
            setattr(filesystem, name, value)
        return filesystem, root

    def options(self, seconds: float) -> dict[str, object]:
        """Return the driver's options; those in fsspec's configuration (FSSPEC_S3 etc.) take precedence."""
        options = dict(self.limits(seconds))
        for protocol in self.protocols:
            for name, value in fsspec.config.conf.get(protocol, {}).items():
                ours = options.get(name)
                options[name] = {**ours, **value} if isinstance(ours, dict) and isinstance(value, dict) else value
        return options


def _of_s3(seconds: float) -> Options:
    client = {
        "connect_timeout": min(seconds, _LONGEST_CONNECT_SECONDS),
        "read_timeout": seconds,
        # 3 attempts with growing pauses, or AWS_MAX_ATTEMPTS. The default mode makes 5.
        "retries": {"mode": "standard"},
    }
    return {"config_kwargs": client, "max_concurrency": _PARTS_AT_ONCE}


def _of_gcs(seconds: float) -> Options:
    from aiohttp import ClientTimeout

    connect = min(seconds, _LONGEST_CONNECT_SECONDS)
    return {"requests_timeout": ClientTimeout(total=None, sock_connect=connect, sock_read=seconds)}


def _of_azure(seconds: float) -> Options:
    connect = min(seconds, _LONGEST_CONNECT_SECONDS)
    return {"connection_timeout": connect, "read_timeout": seconds, "max_concurrency": _PARTS_AT_ONCE}


_OBJECT_STORES = (
    # botocore alone repeats requests. s3fs would make 5 attempts of each of them, when reading 5 times 5: a file would
    # wait for 125 timeouts of a store that hangs. Here it is 3.
    ObjectStore(("s3", "s3a"), _of_s3, {"chunksize": _PART_BYTES}, {"retries": 1}),
    ObjectStore(("gs", "gcs"), _of_gcs, {"chunksize": _PART_BYTES}, {}),
    ObjectStore(("abfs", "abfss", "az"), _of_azure, {}, {}),
)


def object_store_of(location: str) -> ObjectStore | None:
    """Find the driver of a URL; None for a folder, a chained URL, and drivers of other storage."""
    protocol, separator, _ = location.partition("://")
    return next((store for store in _OBJECT_STORES if separator and protocol in store.protocols), None)


def exists_already(error: Exception) -> bool:
    """Return whether an exclusive upload failed because the object exists or is being created by another upload (409).

    s3fs recognizes only the error of AWS; for other S3 servers the kept response is inspected.
    """
    if isinstance(error, FileExistsError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412)
