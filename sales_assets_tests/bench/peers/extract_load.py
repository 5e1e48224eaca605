"""dlt's part of the work: load order files unchanged into raw.user_orders_log, as in dlt's guide to fast loading.

The peers' Python runs it as ``extract_load.py FOLDER FILE...``, with the database given by libpq's variables; dlt
stores its state below FOLDER.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import dlt
import pyarrow as pa
from pyarrow import csv

# Typed columns are fastest to read; in return, a single cell of another type stops the load.
_TYPES = {
    "id": pa.int32(),
    "uniq_id": pa.string(),
    "date_time": pa.string(),
    "city_id": pa.int32(),
    "city_name": pa.string(),
    "customer_id": pa.int32(),
    "first_name": pa.string(),
    "last_name": pa.string(),
    "item_id": pa.int32(),
    "item_name": pa.string(),
    "quantity": pa.decimal128(10, 2),
    "payment_amount": pa.decimal128(10, 2),
    "status": pa.string(),  # null in files without this column
}
_OPTIONS = csv.ConvertOptions(column_types=_TYPES, include_columns=list(_TYPES), include_missing_columns=True)


def batches(files: Iterable[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        with csv.open_csv(file, read_options=csv.ReadOptions(block_size=8 << 20), convert_options=_OPTIONS) as reader:
            yield from reader


def main(folder: Path, files: list[str]) -> None:
    server = {
        "username": os.environ["PGUSER"],
        "database": os.environ["PGDATABASE"],
        "port": int(os.environ["PGPORT"]),
        "password": "none",  # dlt requires a password, the embedded server does not
        # dlt's URL can't contain a socket folder as its host; the host in the query takes precedence.
        "host": "localhost",
        "query": {"host": os.environ["PGHOST"]},
    }
    pipeline = dlt.pipeline(
        "peer", pipelines_dir=str(folder), destination=dlt.destinations.postgres(server), dataset_name="raw"
    )
    resource = dlt.resource(batches(files), name="user_orders_log", write_disposition="replace")
    pipeline.run(resource, loader_file_format="parquet").raise_on_failed_jobs()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
