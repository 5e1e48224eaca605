"""Binary rows for COPY: PostgreSQL stores the batches exactly, to the last cent and null."""

import random
from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

from sales_assets.postgres.binary_copy import encoded
from sales_assets.postgres.embedded import EmbeddedPostgres

SQL_TYPES = {
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.string(): "text",
    pa.decimal128(10, 2): "numeric(10, 2)",
    pa.decimal128(18, 4): "numeric(18, 4)",
    pa.decimal128(9, 0): "numeric(9)",
}
EDGES: dict[pa.DataType, list[object]] = {
    pa.int32(): [0, 1, -1, 2**31 - 1, -(2**31)],
    pa.int64(): [0, -1, 2**63 - 1, -(2**63)],
    pa.string(): ["", "a", "Молоко 3 %", 'say "a, b"', "tab\tnew\nline \\. \\N", "\ufeff", "x" * 5000],
    pa.decimal128(10, 2): [Decimal(v) for v in ("0.00", "0.01", "0.10", "1.00", "9999.99", "10000.00", "99999999.99")],
    pa.decimal128(18, 4): [Decimal(v) for v in ("-0.0001", "99999999999999.9999", "-10000.0000", "-12345678.9000")],
    pa.decimal128(9, 0): [Decimal(v) for v in ("0", "-1", "10000", "999999999")],
}


@pytest.fixture
def connection(server: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url("postgres")) as opened:
        yield opened


def through_postgresql(connection: psycopg.Connection, batches: list[pa.RecordBatch]) -> list[tuple[object, ...]]:
    schema = batches[0].schema
    columns = ", ".join(f'"{field.name}" {SQL_TYPES[field.type]}' for field in schema)
    connection.execute(f"CREATE TEMP TABLE landing ({columns}) ON COMMIT DROP".encode())
    with connection.cursor().copy("COPY landing FROM STDIN (FORMAT binary)") as copy:
        for block in encoded(batches):
            copy.write(block)
    rows = connection.execute("SELECT * FROM landing ORDER BY 1").fetchall()
    connection.rollback()
    return rows


def rows_of(batches: list[pa.RecordBatch]) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def drawn(random_: random.Random, schema: pa.Schema, first: int, count: int) -> pa.RecordBatch:
    """Return rows numbered in their first column, with edge values, and nulls in some columns."""
    columns = [pa.array(range(first, first + count), pa.int64())]
    for field in schema.names[1:]:
        kind = schema.field(field).type
        choices = [*EDGES[kind], *([None] if random_.random() < 0.5 else [])]
        columns.append(pa.array(random_.choices(choices, k=count), kind))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@pytest.mark.parametrize("seed", range(10))
def test_postgresql_stores_the_batches_exactly(connection: psycopg.Connection, seed: int) -> None:
    random_ = random.Random(seed)
    kinds = random_.choices(list(SQL_TYPES), k=random_.randint(0, 12))
    schema = pa.schema([("n", pa.int64()), *((f"c{at}", kind) for at, kind in enumerate(kinds))])
    batches = [drawn(random_, schema, first, count) for first, count in ((0, 50), (50, 0), (100, 7), (200, 1))]
    assert through_postgresql(connection, batches) == rows_of(batches)


def test_a_slice_of_a_batch_is_stored_exactly(connection: psycopg.Connection) -> None:
    schema = pa.schema([("n", pa.int64()), *((f"c{at}", kind) for at, kind in enumerate(EDGES))])
    part = drawn(random.Random(1), schema, 0, 100).slice(33, 21)
    assert through_postgresql(connection, [part]) == rows_of([part])


def test_without_batches_no_row_is_stored(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TEMP TABLE landing (n integer) ON COMMIT DROP")
    with connection.cursor() as cursor:
        with cursor.copy("COPY landing FROM STDIN (FORMAT binary)") as copy:
            for block in encoded([]):
                copy.write(block)
        assert cursor.rowcount == 0


def test_few_rows_are_one_block_and_many_are_several(connection: psycopg.Connection) -> None:
    """A single block is sent without a thread."""
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    batches = [drawn(random.Random(1), schema, at, 100) for at in range(0, 2000, 100)]
    assert len(list(encoded(batches[:2]))) == 1
    assert len(list(encoded(batches))) > 1
    assert through_postgresql(connection, batches) == rows_of(batches)


def test_a_column_type_that_differs_from_the_table_is_refused(connection: psycopg.Connection) -> None:
    """A value is sent with its length, which differs between the types."""
    connection.execute("CREATE TEMP TABLE landing (n bigint)")
    batch = pa.RecordBatch.from_pydict({"n": pa.array([1], pa.int32())})
    with (
        pytest.raises(psycopg.DatabaseError, match="landing, line 1, column n"),
        connection.cursor().copy("COPY landing FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.write(b"".join(encoded([batch])))
