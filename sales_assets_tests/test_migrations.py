"""Migrations of real databases: empty ones, and marts that were in use for years."""

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, LiteralString

import dagster as dg
import psycopg
import pytest

from sales_assets import settings as settings_module
from sales_assets.postgres import migrations, names
from sales_assets.postgres.migrations import MigrationError
from sales_assets.postgres.queries import sql_folder
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder, fetch_report, load_days
from sales_assets_tests.fixtures import change_stored_file, stored_files

Sql = Callable[..., list[tuple[Any, ...]]]

DAY = "2024-10-01"

# The original mart as found in practice: serial ids, dimensions with separate ids, foreign keys.
LEGACY: LiteralString = """
CREATE SCHEMA mart;
CREATE TABLE mart.d_calendar (date_id integer PRIMARY KEY, fact_date date NOT NULL, day_num integer,
                              month_name varchar(8));
CREATE TABLE mart.d_city (id serial PRIMARY KEY, city_id integer UNIQUE, city_name varchar(50));
CREATE TABLE mart.d_customer (id serial PRIMARY KEY, customer_id integer NOT NULL UNIQUE, first_name varchar(15),
                              last_name varchar(15), city_id integer NOT NULL REFERENCES mart.d_city (city_id));
CREATE TABLE mart.d_item (id serial PRIMARY KEY, item_id integer UNIQUE, item_name varchar(50));
CREATE TABLE mart.f_sales (
    id serial PRIMARY KEY,
    date_id integer NOT NULL REFERENCES mart.d_calendar (date_id),
    item_id integer NOT NULL REFERENCES mart.d_item (item_id),
    customer_id integer NOT NULL REFERENCES mart.d_customer (customer_id),
    city_id integer NOT NULL REFERENCES mart.d_city (city_id),
    quantity numeric(10, 2),
    amount numeric(10, 2)
);
INSERT INTO mart.d_calendar VALUES (20240930, '2024-09-30', 30, 'Sep'), (20241001, '2024-10-01', 1, 'Oct');
INSERT INTO mart.d_city (city_id, city_name) VALUES (1, 'Ростов');
INSERT INTO mart.d_customer (customer_id, first_name, last_name, city_id) VALUES (51, 'Анна', 'Орлова', 1);
INSERT INTO mart.d_item (item_id, item_name) VALUES (3, 'Молоко');
INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount)
VALUES (20240930, 3, 51, 1, 1, 100), (20241001, 3, 51, 1, 2, 200.50);
"""
OLD_READER: LiteralString = (
    "SELECT id, date_id, item_id, customer_id, city_id, quantity, amount FROM mart.f_sales ORDER BY id"
)
OLD_WRITER: LiteralString = (
    "INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount) "
    "VALUES (20240930, 3, 51, 1, 7, 70) RETURNING id"
)
COLUMNS: LiteralString = (
    "SELECT column_name FROM information_schema.columns WHERE (table_schema, table_name) = ('mart', 'f_sales') "
    "ORDER BY ordinal_position"
)
SEVEN = ["id", "date_id", "item_id", "customer_id", "city_id", "quantity", "amount"]


@pytest.fixture
def url(new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Create an empty database, set its URL in the settings, and return the URL."""
    new_url = new_database("template1")
    monkeypatch.setenv("WAREHOUSE_URL", new_url)
    settings_module.settings.cache_clear()
    return new_url


@pytest.fixture
def sql(url: str) -> Sql:
    """Return a function that executes and commits a script, and returns the rows of its last statement, if any."""

    def run(script: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(url) as connection:
            cursor = connection.execute(script.encode(), parameters or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    return run


def shape(sql: Sql) -> list[tuple[Any, ...]]:
    """Return every column, constraint and index in the schemas that the migrations manage."""
    columns = sql(
        "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema IN ('mart', 'raw', 'staging', 'ops') ORDER BY 1, 2, 3"
    )
    constraints = sql(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace::regnamespace::text IN ('mart', 'raw', 'staging', 'ops') ORDER BY 1, 2"
    )
    indexes = sql("SELECT indexdef FROM pg_indexes WHERE schemaname IN ('mart', 'raw', 'staging', 'ops') ORDER BY 1")
    return [*columns, *constraints, *indexes]


# --- upgrades and downgrades ------------------------------------------------------------------------------


def test_an_empty_warehouse_is_migrated_and_a_second_migration_changes_nothing(url: str, sql: Sql) -> None:
    assert migrations.current_revision(url) is None
    assert migrations.migrate(url) == (None, migrations.latest_revision())
    assert [name for (name,) in sql(COLUMNS)] == [*SEVEN, "status", "source"]
    before = shape(sql)
    assert migrations.migrate(url) == (migrations.latest_revision(), migrations.latest_revision())
    assert shape(sql) == before


def test_a_downgrade_followed_by_an_upgrade_restores_the_same_schema(url: str, sql: Sql) -> None:
    migrations.migrate(url)
    before = shape(sql)
    for revision, _ in reversed(migrations.revisions()):
        migrations.migrate(url, revision)
        assert migrations.current_revision(url) == revision
    assert migrations.migrate(url, "base") == ("0001", None)
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname IN ('mart', 'raw', 'staging')") == [("mart",)]
    migrations.migrate(url)
    assert shape(sql) == before


def test_orders_keep_their_states_in_upgrades_and_downgrades(url: str, sql: Sql) -> None:
    migrations.migrate(url, "0007")
    sql(
        "INSERT INTO orders.partner_order (order_id, body_hash, order_date, order_type, their_pharmacy_id, phone, "
        "lines, state, uncertain, their_order_id, status_id, cancel_asked_at, cancelled_at, created_at) "
        "SELECT id, '', now(), 1, '', '', '[]', state, uncertain, theirs, status, asked, cancelled, now() - age "
        "FROM (VALUES "
        "(1, 'creating', false, NULL, NULL, NULL::timestamptz, NULL::timestamptz, interval '0'), "
        "(2, 'creating', true, NULL, NULL, NULL, NULL, '0'), (3, 'unknown', true, NULL, NULL, NULL, NULL, '0'), "
        "(4, 'failed', false, NULL, NULL, NULL, NULL, '0'), (5, 'rejected', false, NULL, NULL, NULL, NULL, '0'), "
        "(6, 'accepted', false, '1', 0, NULL, NULL, '1 day'), (7, 'accepted', false, '2', 2, NULL, NULL, '0'), "
        "(8, 'accepted', false, '3', 3, NULL, now(), '0'), (9, 'accepted', false, '4', 0, now(), NULL, '0'), "
        "(10, 'accepted', false, '5', 0, NULL, NULL, '15 days')) "
        "AS o (id, state, uncertain, theirs, status, asked, cancelled, age)"
    )
    migrations.migrate(url)
    assert sql("SELECT order_id, state, next_check_at IS NOT NULL FROM orders.partner_order ORDER BY 1") == [
        (1, "creating", True),
        (2, "unknown", True),
        (3, "unknown", True),
        (4, "failed", False),
        (5, "rejected", False),
        (6, "accepted", True),
        (7, "done", False),
        (8, "cancelled", False),
        (9, "cancel_unknown", True),
        (10, "accepted", False),
    ]
    migrations.migrate(url, "0007")
    assert sql(
        "SELECT state, uncertain, status_id, cancel_asked_at IS NOT NULL, cancelled_at IS NOT NULL, "
        "next_check_at IS NOT NULL FROM orders.partner_order ORDER BY order_id"
    ) == [
        ("creating", False, None, False, False, True),
        ("unknown", True, None, False, False, True),
        ("unknown", True, None, False, False, True),
        ("failed", False, None, False, False, False),
        ("rejected", False, None, False, False, False),
        ("accepted", False, 0, False, False, False),
        ("accepted", False, 2, False, False, False),
        ("accepted", False, 3, False, True, False),
        ("accepted", False, 0, True, False, True),
        ("accepted", False, 0, False, False, False),
    ]


def test_a_full_downgrade_keeps_schemas_with_tables_of_others(url: str, sql: Sql) -> None:
    migrations.migrate(url)
    sql("CREATE TABLE staging.of_another_team (id integer)")
    migrations.migrate(url, "base")
    assert sql("SELECT to_regclass('staging.of_another_team')::text") == [("staging.of_another_team",)]
    assert sql("SELECT to_regnamespace('raw')") == [(None,)]


def test_an_unknown_revision_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(MigrationError, match="there is no revision '0815'; known are base, 0001"):
        migrations.migrate(url, "0815")


def test_a_warehouse_of_a_newer_version_is_not_changed(url: str, sql: Sql) -> None:
    migrations.migrate(url)
    sql("UPDATE ops.schema_version SET version_num = '9999'")
    with pytest.raises(MigrationError, match="at revision 9999, which a newer version"):
        migrations.migrate(url)
    assert migrations.current_revision(url) == "9999"


def test_a_failed_migration_changes_nothing(url: str, sql: Sql) -> None:
    sql(LEGACY)
    sql("ALTER TABLE mart.f_sales ALTER amount TYPE numeric(12, 4); UPDATE mart.f_sales SET amount = 0.0001")
    before = shape(sql)
    with pytest.raises(MigrationError):
        migrations.migrate(url)
    assert shape(sql) == before
    assert sql("SELECT to_regnamespace('ops')") == [(None,)]


def test_two_processes_migrate_concurrently(url: str, sql: Sql) -> None:
    script = "import sys; from sales_assets.postgres.migrations import migrate; print(*migrate(sys.argv[1]))"
    command = [sys.executable, "-c", script, url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    latest = migrations.latest_revision()
    assert sorted(out.strip() for out, _ in outputs) == [f"{latest} {latest}", f"None {latest}"]
    assert sql("SELECT version_num FROM ops.schema_version") == [(latest,)]


def test_mapped_phones_get_a_key_and_waiting_lines_are_loaded_again(url: str, sql: Sql) -> None:
    keys = "SELECT phone, customer_id, client_phone FROM staging.partner_customer ORDER BY 1, 2"
    migrations.migrate(url, "0007")
    sql(
        """INSERT INTO staging.partner_customer VALUES ('8 (999) 777-22-11', 51), ('+375 29 123-45-67', 60),
               ('79210000001 (E)', 70);
           INSERT INTO staging.partner_order_event (message_id, kind, project_id, kodpost, order_id, their_order_id,
               their_pharmacy_id, phone, dated_at, lines, loaded_at)
           SELECT '8-' || n || '-accepted', 'accepted', 8, 116897, n, '777', '1086', '79997772211', now(), '[]', now()
           FROM generate_series(1, 2) AS n;
           INSERT INTO staging.partner_order_quarantine VALUES ('8-1-accepted', 1, 'shipped', 20240620, 'no mapping')"""
    )
    migrations.migrate(url)
    assert sql(keys) == [
        ("+375 29 123-45-67", 60, "+375291234567"),
        ("79210000001 (E)", 70, None),
        ("8 (999) 777-22-11", 51, "79997772211"),
    ]
    assert sql("SELECT order_id FROM staging.partner_order_event WHERE loaded_at IS NULL") == [(1,)]
    sql("INSERT INTO staging.partner_customer VALUES ('8 (999) 777-22-11', 52)")
    migrations.migrate(url, "0007")
    assert sql(keys) == [("+375 29 123-45-67", 60, None), ("79210000001 (E)", 70, "79210000001")]


# --- a legacy mart ----------------------------------------------------------------------------------------


def test_old_readers_and_writers_work_unchanged(url: str, sql: Sql) -> None:
    sql(LEGACY)
    sql("CREATE VIEW public.report AS SELECT * FROM mart.f_sales")
    before, (last,) = sql(OLD_READER), sql(OLD_WRITER)[-1]
    migrations.migrate(url)
    assert sql(OLD_READER)[:-1] == before
    assert sql(OLD_WRITER) == [(last + 1,)]
    assert len(sql("SELECT * FROM public.report")[0]) == len(SEVEN)
    assert sql("SELECT DISTINCT status, source FROM mart.f_sales") == [("shipped", "legacy")]


def test_a_load_replaces_only_the_legacy_rows_of_days_with_a_file(
    url: str, sql: Sql, reports: ReportFolderBuilder, report_api: ReportApi, instance: dg.DagsterInstance
) -> None:
    sql(LEGACY)
    migrations.migrate(url)
    long_name = "Анна-Мария-Елизавета-Александра"
    sale = Order("a" * 32, first_name=long_name, city_id="8")
    reports.increment(DAY, [sale, sale.but(uniq_id="b" * 32, status="refunded")])
    assert fetch_report(instance).success
    assert load_days(instance, "2024-09-30", DAY).success
    rows = sql("SELECT date_id, amount, status, source FROM mart.f_sales ORDER BY date_id, amount")
    assert rows == [
        (20240930, Decimal(100), "shipped", "legacy"),
        (20241001, Decimal(-200), "refunded", "report_api"),
        (20241001, Decimal(200), "shipped", "report_api"),
    ]
    assert sql("SELECT first_name FROM mart.d_customer WHERE customer_id = 51") == [(long_name,)]
    # fact_date belongs to the old writer, so the loader doesn't change it.
    assert sql("SELECT fact_date::text, date_actual::text FROM mart.d_calendar WHERE date_id = 20241001") == [
        ("2024-10-01", "2024-10-01")
    ]


def test_a_downgrade_keeps_refunds_negative_and_restores_foreign_keys(
    url: str, sql: Sql, reports: ReportFolderBuilder, report_api: ReportApi, instance: dg.DagsterInstance
) -> None:
    sql(LEGACY)
    keys = "SELECT conname FROM pg_constraint WHERE conrelid = 'mart.f_sales'::regclass AND contype = 'f' ORDER BY 1"
    before = sql(keys)
    migrations.migrate(url)
    assert sql(keys) == []
    reports.increment(DAY, [Order("a" * 32), Order("b" * 32, status="refunded", amount="50")])
    assert fetch_report(instance).success
    assert load_days(instance, DAY).success
    migrations.migrate(url, "0003")
    assert [name for (name,) in sql(COLUMNS)] == SEVEN
    assert sql("SELECT amount FROM mart.f_sales WHERE date_id = 20241001 ORDER BY 1") == [(-50,), (200,)]
    assert sql(keys) == before
    assert sql(OLD_WRITER)

    migrations.migrate(url)
    assert load_days(instance, DAY).success
    assert sql("SELECT amount, status FROM mart.f_sales WHERE date_id = 20241001 ORDER BY 1") == [
        (-50, "refunded"),
        (200, "shipped"),
    ]


# The result of a second delivery of the same bytes before revision 0008: another fetch, with its rows open again.
SECOND_DELIVERY: LiteralString = """
WITH answer AS (
    INSERT INTO raw.delivery (kind, first_day, last_day, outcome, report_id)
    SELECT kind, first_day, last_day, outcome, report_id FROM raw.delivery WHERE kind = 'increment' LIMIT 1
    RETURNING delivery_id
), again AS (
    INSERT INTO raw.fetch
    SELECT (jsonb_populate_record(f, jsonb_build_object('fetch_id', nextval('raw.fetch_number'),
                                                        'delivery_id', answer.delivery_id,
                                                        'path', path || '.again.csv'))).*
    FROM raw.fetch AS f, answer
    RETURNING fetch_id
), parsed AS (
    INSERT INTO staging.fetch_reading
    SELECT (jsonb_populate_record(r, jsonb_build_object('fetch_id', again.fetch_id, 'kept', 1, 'bad', 1))).*
    FROM staging.fetch_reading AS r, again
), rejected AS (
    INSERT INTO staging.quarantine (fetch_id, line_no, date_id, reason, line_text)
    SELECT again.fetch_id, line_no, date_id, reason, line_text FROM staging.quarantine, again
), staged AS (
    UPDATE staging.staged_day SET fetch_id = again.fetch_id, revision = 1, rows = 1 FROM again
), lines AS (
    DELETE FROM staging.user_orders_log WHERE uniq_id = 'b'
), sales AS (
    DELETE FROM mart.f_sales WHERE amount < 0
)
UPDATE staging.user_orders_log SET fetch_id = again.fetch_id FROM again WHERE uniq_id = 'a'
"""


def test_contents_stored_twice_become_deliveries_and_inherit_their_resolutions(
    url: str,
    sql: Sql,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    instance: dg.DagsterInstance,
) -> None:
    """A correction undone by a second delivery of the same bytes is applied again by the day's next load."""
    migrations.migrate(url)
    reports.increment(DAY, [Order("a"), Order("b", status="refnded"), "of no use"])
    assert fetch_report(instance).success
    assert load_days(instance, DAY).success
    sql(
        "UPDATE staging.quarantine SET state = 'corrected', corrected_at = now(),"
        " corrected_text = replace(line_text, 'refnded', 'refunded') WHERE line_no = 3"
    )
    assert load_days(instance, DAY).success
    assert sql("SELECT sum(amount) FROM mart.f_sales") == [(0,)]
    migrations.migrate(url, "0007")
    ((path,),) = sql("SELECT path FROM raw.fetch")
    change_stored_file(f"{path}.again.csv", stored_files()[path])
    sql(SECOND_DELIVERY)
    assert sql("SELECT sum(amount) FROM mart.f_sales") == [(200,)]
    fetches = sql("SELECT * FROM raw.fetch ORDER BY fetch_id")

    migrations.migrate(url)
    assert sql("SELECT * FROM raw.fetch ORDER BY fetch_id") == fetches
    first, second = (fetch[0] for fetch in fetches)
    rows = sql("SELECT fetch_id, line_no, state, inherited_from FROM staging.quarantine ORDER BY quarantine_id")
    ((origin,),) = sql("SELECT quarantine_id FROM staging.quarantine WHERE (fetch_id, line_no) = (%s, 3)", first)
    assert rows == [
        (first, 3, "corrected", None),
        (first, 4, "open", None),
        (second, 3, "corrected", origin),
        (second, 4, "open", None),
    ]
    for _ in range(2):
        assert load_days(instance, DAY).success
        assert sql("SELECT uniq_id, fetch_id FROM mart.f_sales_lines ORDER BY 1") == [("a", second), ("b", second)]
        assert sql("SELECT sum(amount) FROM mart.f_sales") == [(0,)]
    assert sql("SELECT * FROM raw.fetch ORDER BY fetch_id") == fetches
    assert sql("SELECT fetch_id FROM raw.file_delivery ORDER BY number") == [(first,), (second,), (second,), (second,)]

    # A downgrade and another upgrade: all stored data are kept, and loads continue to work.
    migrations.migrate(url, "0007")
    assert sql("SELECT * FROM raw.fetch ORDER BY fetch_id") == fetches
    assert sql("SELECT sum(amount) FROM mart.f_sales") == [(0,)]
    migrations.migrate(url)
    reports.increment(DAY, [Order("a", amount="7")])
    assert load_days(instance, DAY).success
    assert sql("SELECT sum(amount) FROM mart.f_sales") == [(7,)]


def test_names_are_moved_out_of_the_rows_and_back(
    url: str, sql: Sql, reports: ReportFolderBuilder, report_api: ReportApi, instance: dg.DagsterInstance
) -> None:
    """Rows, ids and foreign views are kept; a load continues to work."""
    migrations.migrate(url)
    sql("CREATE VIEW public.lines AS SELECT uniq_id, sale_id FROM staging.user_orders_log")
    sql("GRANT SELECT ON staging.user_orders_log TO PUBLIC")
    grants = "SELECT relacl::text LIKE '%=r/%' FROM pg_class WHERE oid = 'staging.user_orders_log'::regclass"
    first = Order("a", city_name="Rostov", item_name="", time=" 10:00")
    second = Order("b", city_name="Rostov-on-Don", last_name="Petrova", time=" 12:00")
    reports.increment(DAY, [first, second])
    assert fetch_report(instance).success
    assert load_days(instance, DAY).success
    names = (
        "SELECT dimension, id, first, second, first_seen, last_seen, last_line FROM staging.name ORDER BY 1, 2, 3, 4"
    )
    staged = "SELECT * FROM staging.user_orders_log ORDER BY sale_id"
    before = sql(names), sql(staged), sql("SELECT * FROM public.lines ORDER BY 1")

    migrations.migrate(url, "0011")
    assert sql("SELECT uniq_id, city_name, last_name, item_name FROM staging.user_orders_log ORDER BY 1") == [
        ("a", "Rostov", "Orlova", ""),
        ("b", "Rostov-on-Don", "Petrova", "Milk"),
    ]
    assert sql("SELECT * FROM public.lines ORDER BY 1") == before[2]
    assert sql("SELECT city_name FROM mart.d_city") == [("Rostov-on-Don",)]
    assert sql(grants) == [(True,)]

    migrations.migrate(url)
    assert sql(grants) == [(True,)]
    assert (sql(names), sql(staged), sql("SELECT * FROM public.lines ORDER BY 1")) == before
    reports.increment(DAY, [first, second, Order("c")])
    assert load_days(instance, DAY).success
    assert sql(staged)[:2] != before[1], "the rows come from another file now"
    assert sql("SELECT * FROM public.lines ORDER BY 1")[:2] == before[2], "and kept their ids"


def test_a_view_that_reads_names_from_staging_is_reported(url: str, sql: Sql) -> None:
    migrations.migrate(url, "0011")
    sql("CREATE VIEW public.named AS SELECT city_name FROM staging.user_orders_log")
    with pytest.raises(migrations.MigrationError, match="user_orders_log_named"):
        migrations.migrate(url)
    assert migrations.current_revision(url) == "0011"
    assert sql("SELECT * FROM public.named") == []

    sql("DROP VIEW public.named")
    migrations.migrate(url)
    sql("CREATE VIEW public.named AS SELECT city_name FROM staging.user_orders_log_named")
    with pytest.raises(migrations.MigrationError, match="and create it again on staging"):
        migrations.migrate(url, "0011")


@pytest.mark.parametrize(
    ("column_type", "value", "expected"),
    [
        ("double precision", "0.1::float8 + 0.2::float8", "0.30"),
        ("real", "19.99", "19.99"),
        ("bigint", "42", "42.00"),
        ("numeric(12, 4)", "1.5000", "1.50"),
        ("numeric", "99999999.99", "99999999.99"),
    ],
)
def test_other_number_types_become_numeric(url: str, sql: Sql, column_type: str, value: str, expected: str) -> None:
    sql(LEGACY)
    sql(f"ALTER TABLE mart.f_sales ALTER amount TYPE {column_type}, ALTER amount SET DEFAULT 5")
    sql(f"UPDATE mart.f_sales SET amount = {value}")
    migrations.migrate(url)
    assert sql("SELECT DISTINCT amount::text, pg_typeof(amount)::text FROM mart.f_sales") == [(expected, "numeric")]
    # A writer that relies on the column's default also continues to work.
    sql("INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id) VALUES (20240930, 3, 51, 1)")
    assert sql("SELECT amount::text FROM mart.f_sales ORDER BY id DESC LIMIT 1") == [("5.00",)]


@pytest.mark.parametrize(
    ("column_type", "value"),
    [("double precision", "0.125"), ("bigint", "100000000"), ("numeric(12, 4)", "1.0001"), ("real", "'NaN'")],
)
def test_values_that_do_not_fit_are_counted_and_not_rounded(url: str, sql: Sql, column_type: str, value: str) -> None:
    sql(LEGACY)
    sql(f"ALTER TABLE mart.f_sales ALTER amount TYPE {column_type}")
    sql(f"UPDATE mart.f_sales SET amount = {value} WHERE id = 1")
    with pytest.raises(MigrationError, match=r"mart\.f_sales\.amount is .*, and 1 of its values do not fit"):
        migrations.migrate(url)
    sql("UPDATE mart.f_sales SET amount = 0 WHERE id = 1")
    migrations.migrate(url)


def test_views_keep_their_owner_grants_options_and_comments(url: str, sql: Sql) -> None:
    role, grantee = (f"{name}_{url.partition('test_')[2][:12]}" for name in ("owner", "reader"))
    sql(LEGACY)
    sql(
        f"""
        CREATE ROLE {role}; CREATE ROLE {grantee};
        GRANT USAGE, CREATE ON SCHEMA mart, public TO {role};
        ALTER TABLE mart.f_sales ALTER amount TYPE double precision;
        GRANT SELECT ON mart.f_sales, mart.d_customer TO {role};
        CREATE VIEW public.named WITH (security_barrier = true) AS
            SELECT f.id, c.first_name, f.amount FROM mart.f_sales AS f JOIN mart.d_customer AS c USING (customer_id);
        CREATE VIEW mart."Сводка" AS SELECT first_name, sum(amount) AS total FROM public.named GROUP BY 1;
        CREATE VIEW public.both AS
            SELECT n.id, s.total, i.item_name FROM public.named AS n, mart."Сводка" AS s, mart.d_item AS i;
        ALTER VIEW public.named OWNER TO {role};
        GRANT SELECT ON public.named TO {grantee} WITH GRANT OPTION;
        GRANT SELECT (total) ON mart."Сводка" TO PUBLIC;
        COMMENT ON VIEW public.named IS 'it''s for the board';
        COMMENT ON COLUMN public.named.amount IS 'gross';
        """
    )
    views = (
        "SELECT c.oid::regclass::text, pg_get_viewdef(c.oid), c.relowner::regrole::text, c.reloptions, c.relacl::text, "
        "obj_description(c.oid, 'pg_class'), "
        "array_agg((a.attname, a.attacl::text, col_description(c.oid, a.attnum))::text ORDER BY a.attnum) "
        "FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid "
        "WHERE c.oid IN ('public.named'::regclass, 'mart.\"Сводка\"'::regclass, 'public.both'::regclass) "
        "GROUP BY c.oid ORDER BY 1"
    )
    before, rows = sql(views), sql("SELECT * FROM public.both ORDER BY 1")
    try:
        migrations.migrate(url)
        assert sql(views) == before
        assert [(row[0], float(row[1]), row[2]) for row in sql("SELECT * FROM public.both ORDER BY 1")] == rows
    finally:
        sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}, {grantee}; DROP ROLE {role}, {grantee}")


@pytest.mark.parametrize(
    "reader",
    [
        "CREATE MATERIALIZED VIEW public.reader AS SELECT sum(amount) AS amount FROM mart.f_sales",
        (
            "CREATE VIEW public.reader AS SELECT id, amount FROM mart.f_sales; "
            "ALTER VIEW public.reader ALTER amount SET DEFAULT 1"
        ),
        (
            "CREATE VIEW public.reader AS SELECT id, amount FROM mart.f_sales; "
            "CREATE RULE r AS ON DELETE TO public.reader DO INSTEAD NOTHING"
        ),
    ],
)
def test_a_view_that_cannot_be_recreated_is_not_dropped(url: str, sql: Sql, reader: str) -> None:
    sql(LEGACY)
    sql("ALTER TABLE mart.f_sales ALTER amount TYPE real")
    sql(reader)
    with pytest.raises(MigrationError, match=r"reader reads mart\.f_sales.*\n.*Drop it, migrate, and create it again"):
        migrations.migrate(url)
    assert sql("SELECT to_regclass('public.reader') IS NOT NULL") == [(True,)]


@pytest.mark.parametrize(
    "ids",
    [
        "ALTER TABLE mart.f_sales ALTER id DROP DEFAULT, ALTER id ADD GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE mart.f_sales ALTER id DROP DEFAULT; DROP SEQUENCE mart.f_sales_id_seq",
        (
            "ALTER TABLE mart.f_sales ALTER id DROP DEFAULT; DROP SEQUENCE mart.f_sales_id_seq; "
            "ALTER TABLE mart.f_sales DROP CONSTRAINT f_sales_pkey, ALTER id DROP NOT NULL"
        ),
        "ALTER SEQUENCE mart.f_sales_id_seq OWNED BY NONE",
        "INSERT INTO mart.f_sales VALUES (900, 20240930, 3, 51, 1, 1, 1)",
        "DELETE FROM mart.f_sales",
    ],
    ids=["identity", "no default", "no key", "an unowned sequence", "explicit ids", "empty"],
)
def test_ids_are_drawn_from_one_sequence_above_all_existing_ids(url: str, sql: Sql, ids: str) -> None:
    sql(LEGACY)
    sql(ids)
    ((highest,),) = sql("SELECT coalesce(max(id), 0) FROM mart.f_sales")
    had_sequence = sql("SELECT to_regclass('mart.f_sales_id_seq')::text")[0][0]
    migrations.migrate(url)
    ((given,),) = sql(OLD_WRITER)
    assert given > highest
    ((drawn,),) = sql("SELECT nextval(pg_get_serial_sequence('mart.f_sales', 'id'))")
    assert drawn == given + 1
    if had_sequence and "IDENTITY" not in ids:
        assert sql("SELECT pg_get_serial_sequence('mart.f_sales', 'id')") == [(had_sequence,)]
    # The loader inserts ids explicitly.
    sql("INSERT INTO mart.f_sales (id, date_id, item_id, customer_id, city_id) VALUES (%s, 20240930, 3, 51, 1)", drawn)


@pytest.mark.parametrize(
    ("wanted", "present"), [("amount", "payment_amount"), ("city_id", "сity_id"), ("quantity", "Qty")]
)
def test_a_renamed_column_is_reported_with_the_statement_that_helps(
    url: str, sql: Sql, wanted: str, present: str
) -> None:
    sql(LEGACY)
    sql(f'ALTER TABLE mart.f_sales RENAME COLUMN {wanted} TO "{present}"')
    with pytest.raises(MigrationError, match=f"has no column {wanted}\n.*Run: ALTER TABLE") as caught:
        migrations.migrate(url)
    sql(str(caught.value).partition("Run: ")[2])
    migrations.migrate(url)
    assert [name for (name,) in sql(COLUMNS)][:7] == SEVEN


def test_a_missing_column_is_reported(url: str, sql: Sql) -> None:
    sql(LEGACY)
    sql("ALTER TABLE mart.f_sales RENAME COLUMN amount TO turnover")
    with pytest.raises(MigrationError, match=r"has no column amount\n.*<its present name> TO amount"):
        migrations.migrate(url)


def test_a_mart_that_is_a_view_is_refused(url: str, sql: Sql) -> None:
    sql("CREATE SCHEMA mart; CREATE VIEW mart.f_sales AS SELECT 1 AS id")
    with pytest.raises(MigrationError, match=r"names that the platform needs are taken: view mart\.f_sales\n"):
        migrations.migrate(url)


def test_a_partitioned_mart_is_refused(url: str, sql: Sql) -> None:
    sql("CREATE SCHEMA mart; CREATE TABLE mart.f_sales (id integer) PARTITION BY LIST (id)")
    with pytest.raises(MigrationError, match=r"mart\.f_sales is not an ordinary table"):
        migrations.migrate(url)


def test_staging_tables_of_an_old_pipeline_are_reported_and_can_be_renamed(url: str, sql: Sql) -> None:
    sql("CREATE SCHEMA staging; CREATE TABLE staging.user_activity_log (id integer)")
    with pytest.raises(MigrationError, match=r"staging\.user_activity_log\n") as caught:
        migrations.migrate(url)
    sql(str(caught.value).partition("for instance: ")[2])
    migrations.migrate(url)


def test_a_manually_built_mart_is_reported_and_can_be_renamed(url: str, sql: Sql) -> None:
    sql("CREATE SCHEMA mart; CREATE TABLE mart.f_customer_retention (period_id integer)")
    with pytest.raises(MigrationError, match=r"mart\.f_customer_retention\n") as caught:
        migrations.migrate(url)
    sql(str(caught.value).partition("for instance: ")[2])
    migrations.migrate(url)
    assert sql("SELECT count(*) FROM mart.f_customer_retention_before") == [(0,)]


def test_duplicate_ids_in_a_dimension_are_reported_with_the_value(url: str, sql: Sql) -> None:
    sql("CREATE SCHEMA mart; CREATE TABLE mart.d_city (city_id integer); INSERT INTO mart.d_city VALUES (7), (7)")
    with pytest.raises(MigrationError, match=r"\(city_id\)=\(7\)"):
        migrations.migrate(url)


def test_a_primary_key_without_default_is_reported_with_the_statement_that_helps(url: str, sql: Sql) -> None:
    sql(
        "CREATE SCHEMA mart; CREATE TABLE mart.d_city (id integer PRIMARY KEY, city_id integer UNIQUE);"
        "INSERT INTO mart.d_city VALUES (5, 1)"
    )
    with pytest.raises(MigrationError, match=r"mart\.d_city\.id is a primary key without a default") as caught:
        migrations.migrate(url)
    sql(str(caught.value).partition("Give it one: ")[2])
    migrations.migrate(url)
    assert sql("INSERT INTO mart.d_city (city_id) VALUES (2) RETURNING id") == [(6,)]


# --- a mart whose status or source was added manually --------------------------------------------------------------


# Refunds as in most marts, with a negative amount and a positive quantity; a NULL is from before the column had a
# default.
SALES: LiteralString = """
INSERT INTO mart.f_sales (date_id, item_id, customer_id, city_id, quantity, amount, status) VALUES
    (20241001, 3, 51, 1, 2, 240, {shipped}), (20241001, 3, 51, 1, 1, -120, {refunded}),
    (20241001, 3, 51, 1, 1, 120, NULL)
"""
ADOPTED = [(-120, "refunded"), (100, "shipped"), (120, "shipped"), (200.5, "shipped"), (240, "shipped")]
STATUSES = "SELECT amount::float8, status FROM mart.f_sales ORDER BY 1"
_ENUM: LiteralString = "CREATE TYPE mart.sale_status AS ENUM ('Shipped', ' REFUNDED '); "


@pytest.mark.parametrize(
    ("definition", "shipped", "refunded"),
    [
        ("text", "'shipped'", "'refunded'"),
        ("varchar(30) DEFAULT 'shipped'", "'shipped'", "'refunded'"),
        ("varchar(8) NOT NULL DEFAULT 'shipped'", "'shipped'", "'refunded'"),
        ("char(10) CHECK (status IN ('Shipped', 'Refunded'))", "'Shipped'", "'Refunded'"),
        (
            "text CHECK (upper(btrim(status, E' \\t\\n')) IN ('SHIPPED', 'REFUNDED'))",
            "E'\\tSHIPPED\\n'",
            "'  ReFunded '",
        ),
        ("mart.sale_status DEFAULT 'Shipped'", "'Shipped'", "' REFUNDED '"),
        ("text CONSTRAINT f_sales_status CHECK (status <> 'lost')", "'shipped'", "'refunded'"),
    ],
)
def test_an_existing_status_column_is_adopted(url: str, sql: Sql, definition: str, shipped: str, refunded: str) -> None:
    sql(LEGACY + _ENUM)
    sql(f"ALTER TABLE mart.f_sales ADD COLUMN status {definition}")
    sales = SALES.format(shipped=shipped, refunded=refunded)
    sql(sales.replace("NULL", shipped if "NOT NULL" in definition else "NULL"))
    sql(
        "CREATE VIEW mart.refunds AS SELECT id, status, amount FROM mart.f_sales WHERE lower(status::text) LIKE '%ref%'"
    )
    nullable = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'mart.f_sales'::regclass AND attname = 'status'"
    was_not_null = sql(nullable)
    for _ in range(2):
        migrations.migrate(url)
        assert sql(STATUSES) == ADOPTED
        assert sql("SELECT amount FROM mart.refunds") == [(-120,)]
        assert sql("SELECT quantity FROM mart.f_sales WHERE status = 'refunded'") == [(1,)]
        assert sql("SELECT DISTINCT source FROM mart.f_sales") == [("legacy",)]
        assert sql(OLD_WRITER)
        assert sql("DELETE FROM mart.f_sales WHERE quantity = 7 RETURNING status") == [("shipped",)]
        for bad in ("'lost'", "NULL"):
            with pytest.raises(psycopg.errors.IntegrityError):
                sql(f"UPDATE mart.f_sales SET status = {bad}")
        # A downgrade keeps the column, which existed before the migrations, with its values.
        migrations.migrate(url, "0003")
        assert [name for (name,) in sql(COLUMNS)] == [*SEVEN, "status"]
        assert sql(STATUSES) == ADOPTED
        assert sql(nullable) == was_not_null
        if was_not_null == [(False,)]:
            sql("UPDATE mart.f_sales SET status = NULL WHERE amount = 120")


def test_an_existing_source_column_is_adopted_and_the_day_can_be_loaded(
    url: str, sql: Sql, reports: ReportFolderBuilder, report_api: ReportApi, instance: dg.DagsterInstance
) -> None:
    sql(LEGACY)
    sql("ALTER TABLE mart.f_sales ADD COLUMN source varchar(9) DEFAULT 'Legacy', ADD COLUMN status varchar(8)")
    sql(SALES.format(shipped="'shipped'", refunded="'refunded'"))
    sql("UPDATE mart.f_sales SET source = NULL WHERE amount = 240")
    migrations.migrate(url)
    assert sql("SELECT DISTINCT source FROM mart.f_sales") == [("legacy",)]
    reports.increment(DAY, [Order("a" * 32), Order("b" * 32, status="refunded", amount="50")])
    assert fetch_report(instance).success
    assert load_days(instance, DAY).success
    assert sql("SELECT amount, status, source FROM mart.f_sales WHERE date_id = 20241001 ORDER BY 1") == [
        (-50, "refunded", "report_api"),
        (200, "shipped", "report_api"),
    ]


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (
            "status text DEFAULT 'returned'",
            r"mart\.f_sales\.status holds 'returned' \(2 rows\); only shipped, refunded and NULL",
        ),
        ("status text DEFAULT ''", r"mart\.f_sales\.status holds '' \(2 rows\)"),
        ("status integer DEFAULT 1", r"mart\.f_sales\.status is integer, and only text, varchar or an enum"),
        ("status boolean", r"mart\.f_sales\.status is boolean"),
        ("status text GENERATED ALWAYS AS ('shipped') STORED", r"mart\.f_sales\.status is a generated column"),
        (
            "source text DEFAULT 'till 4'",
            r"mart\.f_sales\.source holds 'till 4' \(2 rows\); only report_api, partner_orders",
        ),
        (
            "status mart.sale_status DEFAULT 'Shipped', ADD CHECK (status = 'Shipped' OR amount < 0)",
            r"mart\.f_sales\.status is mart\.sale_status and can not become text: ",
        ),
    ],
)
def test_a_column_that_cannot_be_adopted_is_reported_with_the_statement_that_helps(
    url: str, sql: Sql, definition: str, reason: str
) -> None:
    sql(LEGACY + _ENUM)
    sql(f"ALTER TABLE mart.f_sales ADD COLUMN {definition}")
    before, rows = shape(sql), sql("SELECT * FROM mart.f_sales")
    with pytest.raises(MigrationError, match=reason) as caught:
        migrations.migrate(url)
    assert (shape(sql), sql("SELECT * FROM mart.f_sales")) == (before, rows)
    sql(str(caught.value).partition("Run: ")[2])
    migrations.migrate(url)
    assert sql("SELECT DISTINCT status, source FROM mart.f_sales") == [("shipped", "legacy")]


# --- conflicting names -------------------------------------------------------------------------------------


TAKEN: LiteralString = """
CREATE SCHEMA raw; CREATE SCHEMA orders; CREATE SCHEMA mailings; CREATE SCHEMA staging; CREATE SCHEMA ops;
CREATE VIEW raw.delivery AS SELECT 1 AS delivery_id;
CREATE SEQUENCE raw.fetch;
CREATE TABLE orders.outbox (client_phone text);
CREATE TABLE orders.lines (id integer);
CREATE INDEX partner_order_to_check ON orders.lines (id);
CREATE TABLE mailings.letters (id integer);
CREATE INDEX client_phone ON mailings.letters (id);
CREATE FUNCTION mart.iso_week(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE TYPE mart.f_customer_retention AS ENUM ('a');
CREATE MATERIALIZED VIEW mart.f_sales_lines AS SELECT 1 AS one;
CREATE TABLE ops.dropped_foreign_key (id integer);
CREATE TABLE staging.quarantine (id integer);
"""


def test_all_conflicting_names_are_reported_together(url: str, sql: Sql) -> None:
    sql(LEGACY)
    sql(TAKEN)
    before = shape(sql)
    with pytest.raises(MigrationError) as caught:
        migrations.migrate(url)
    assert shape(sql) == before
    first, _, second = str(caught.value).partition("\n")
    assert first.removeprefix("names that the platform needs are taken: ").split(", ") == [
        "index mailings.client_phone",
        "index orders.partner_order_to_check",
        "materialized view mart.f_sales_lines",
        "routine mart.iso_week(integer)",
        'sequence raw."fetch"',
        "table ops.dropped_foreign_key",
        "table orders.outbox",
        "table staging.quarantine",
        "type mart.f_customer_retention",
        "view raw.delivery",
    ]
    sql(second.partition("for instance: ")[2])
    migrations.migrate(url)
    assert sql("SELECT count(*) FROM orders.outbox_before") == [(0,)]
    migrations.migrate(url, "base")
    assert sql("SELECT to_regclass('orders.lines')::text, to_regclass('mailings.letters')::text") == [
        ("orders.lines", "mailings.letters")
    ]


def test_a_conflicting_column_of_a_later_revision_is_reported(url: str, sql: Sql) -> None:
    migrations.migrate(url, "0006")
    sql("ALTER TABLE staging.partner_customer ADD COLUMN client_phone text")
    with pytest.raises(MigrationError, match=r"taken: column staging\.partner_customer\.client_phone\n") as caught:
        migrations.migrate(url)
    sql(str(caught.value).partition("for instance: ")[2])
    migrations.migrate(url)


def test_a_foreign_table_with_the_name_of_the_revision_table_is_reported(url: str, sql: Sql) -> None:
    sql("CREATE SCHEMA ops; CREATE TABLE ops.schema_version (installed_rank integer)")
    assert migrations.current_revision(url) is None
    with pytest.raises(MigrationError, match=r"taken: table ops\.schema_version\n"):
        migrations.migrate(url)


def test_all_names_are_read_from_the_migrations(url: str, sql: Sql) -> None:
    """The names equal those in a migrated, empty database, except for names that PostgreSQL chooses."""
    migrations.migrate(url)
    ours = "('ops', 'raw', 'staging', 'mart', 'orders', 'mailings', 'lake')"
    relations = sql(
        f"""
        SELECT 'relation', n.nspname::text, c.relname::text
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN {ours} AND c.oid <> 'ops.schema_version'::regclass
          AND c.oid NOT IN (SELECT conindid FROM pg_constraint)
          AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype IN ('a', 'i') AND c.relkind = 'S' AND d.refobjsubid > 0)
        UNION ALL
        SELECT 'routine', n.nspname, p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname IN {ours}
        UNION ALL
        SELECT 'type', n.nspname, t.typname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
        WHERE n.nspname IN {ours} AND t.typrelid = 0 AND t.typcategory <> 'A'
        """
    )
    scripts = [path.read_text() for path in sorted((sql_folder() / "migrations" / "versions").glob("*.up.sql"))]
    read = {(name.kind, name.schema, name.name) for name in names.pending([], scripts)}
    # The additional sequence is needed by an upgraded mart without a sequence.
    assert set(relations) <= read
    assert {name for name in read - set(relations) if name[0] in ("relation", "routine")} <= {
        ("relation", "mart", "f_sales_number")
    }
