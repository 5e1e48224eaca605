"""Drivers of object stores: their timeouts, what an upload may hold in memory, and how they report an existing object.

s3fs, gcsfs and adlfs upload a file by ``put_file``: in one request or, if it is larger, in parts that become visible
together; an error aborts the parts. ``mode="create"`` is ``If-None-Match: *`` (gcsfs: ``ifGenerationMatch=0``) on the
request that makes the object visible. ``open(..., "xb", autocommit=False)`` is not used: adlfs ignores ``autocommit``
and would complete a broken upload when the file is closed, and s3fs takes three requests instead of one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import fsspec

# Six files are uploaded at a time. S3's limit of 10 000 parts makes 80 GB.
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_LONGEST_CONNECT_SECONDS = 5

Options = Mapping[str, object]


@dataclass(frozen=True)
class ObjectStore:
    """What a driver needs: `limits` by the seconds without a byte, `upload` for each file, `attributes` once."""

    protocols: tuple[str, ...]
    limits: Callable[[float], Options]
    upload: Options
    attributes: Options

    def open(self, location: str, seconds: float) -> tuple[fsspec.AbstractFileSystem, str]:
        """Return the file system of a location and the path in it. `seconds`: how long a request may give no byte."""
        filesystem, root = fsspec.core.url_to_fs(location, **self.options(seconds))
        for name, value in self.attributes.items():
            setattr(filesystem, name, value)
        return filesystem, root

    def options(self, seconds: float) -> dict[str, object]:
        """Return the driver's options; those that the user set in fsspec's configuration (FSSPEC_S3 etc.) win."""
        options = dict(self.limits(seconds))
        for protocol in self.protocols:
            for name, value in fsspec.config.conf.get(protocol, {}).items():
                ours = options.get(name)
                options[name] = {**ours, **value} if isinstance(ours, dict) and isinstance(value, dict) else value
        return options


def _of_s3(seconds: float) -> Options:
    timeouts = {"connect_timeout": min(seconds, _LONGEST_CONNECT_SECONDS), "read_timeout": seconds}
    return {"config_kwargs": timeouts, "max_concurrency": _PARTS_AT_ONCE}


def _of_gcs(seconds: float) -> Options:
    from aiohttp import ClientTimeout

    connect = min(seconds, _LONGEST_CONNECT_SECONDS)
    return {"requests_timeout": ClientTimeout(total=None, sock_connect=connect, sock_read=seconds)}


def _of_azure(seconds: float) -> Options:
    connect = min(seconds, _LONGEST_CONNECT_SECONDS)
    return {"connection_timeout": connect, "read_timeout": seconds, "max_concurrency": _PARTS_AT_ONCE}


_OBJECT_STORES = (
    # s3fs makes up to 5 attempts, when reading 5 times 5, and botocore 5 for each of them (unless AWS_MAX_ATTEMPTS says
    # otherwise): reading from a store that hangs would take 125 timeouts. Here it takes 20.
    ObjectStore(("s3", "s3a"), _of_s3, {"chunksize": _PART_BYTES}, {"retries": 2}),
    ObjectStore(("gs", "gcs"), _of_gcs, {"chunksize": _PART_BYTES}, {}),
    ObjectStore(("abfs", "abfss", "az"), _of_azure, {}, {}),
)


def object_store_of(location: str) -> ObjectStore | None:
    """Find the driver of a URL; None for a folder, a chained URL, and drivers of other storage."""
    protocol, separator, _ = location.partition("://")
    return next((store for store in _OBJECT_STORES if separator and protocol in store.protocols), None)


def exists_already(error: Exception) -> bool:
    """Whether an exclusive upload failed because the object exists, or is being created by another upload (409).

    s3fs knows only AWS's way to say so; of other S3 servers it keeps the response.
    """
    if isinstance(error, FileExistsError):
        return True
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (409, 412)
