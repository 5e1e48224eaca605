"""The work with pandas: `read_csv`, `drop_duplicates`, `to_sql`, and then the SQL of the dbt project.

Run as ``python -m sales_assets_tests.bench.peers.with_pandas FILE...``, with the database given by libpq's variables.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import psycopg
import sqlalchemy as sa

_PROJECT = Path(__file__).with_name("dbt")
_NAMES = ("city_name", "first_name", "last_name", "item_name")
_MODELS = ("d_calendar", "d_city", "d_customer", "d_item", "f_sales")
# The constraints that schema.yml requires of the models.
_RULES = """
    ALTER TABLE mart.d_calendar ADD PRIMARY KEY (date_id);
    ALTER TABLE mart.d_city     ADD PRIMARY KEY (city_id);
    ALTER TABLE mart.d_customer ADD PRIMARY KEY (customer_id);
    ALTER TABLE mart.d_item     ADD PRIMARY KEY (item_id);
    ALTER TABLE mart.f_sales
        ADD PRIMARY KEY (id),
        ALTER date_id SET NOT NULL, ALTER item_id SET NOT NULL, ALTER customer_id SET NOT NULL,
        ALTER city_id SET NOT NULL, ALTER quantity SET NOT NULL, ALTER amount SET NOT NULL, ALTER status SET NOT NULL,
        ADD CHECK (status IN ('shipped', 'refunded')),
        ADD FOREIGN KEY (date_id) REFERENCES mart.d_calendar, ADD FOREIGN KEY (city_id) REFERENCES mart.d_city,
        ADD FOREIGN KEY (customer_id) REFERENCES mart.d_customer, ADD FOREIGN KEY (item_id) REFERENCES mart.d_item;
    CREATE INDEX ON mart.f_sales USING brin (date_id)
"""


def main(files: Iterable[str]) -> None:
    lines = orders(pd.concat([pd.read_csv(file, dtype=dict.fromkeys(_NAMES, str)) for file in files]))
    with psycopg.connect() as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS mart")
    engine = sa.create_engine("postgresql+psycopg://", creator=psycopg.connect)
    types: Any = dict.fromkeys(("quantity", "payment_amount"), sa.Numeric(10, 2))  # pandas-stubs lacks these types
    lines.to_sql("orders", engine, schema="mart", index=False, chunksize=10_000, dtype=types)
    with psycopg.connect() as connection:
        for name in _MODELS:
            connection.execute(f"CREATE TABLE mart.{name} AS {_rendered(f'models/{name}.sql')}")
        connection.execute(_RULES)
        for test in sorted((_PROJECT / "tests").glob("*.sql")):
            found = connection.execute(_rendered(f"tests/{test.name}")).fetchone()
            if found and "severity='warn'" not in test.read_text(encoding="utf-8"):
                sys.exit(f"{test.stem}: {found}")


def orders(lines: pd.DataFrame) -> pd.DataFrame:
    """Return one row per key. Identical copies are one row; conflicting rows are all dropped."""
    status = lines["status"] if "status" in lines else pd.Series("", lines.index)
    lines = lines.assign(
        status=status.fillna("").str.strip().str.lower().replace("", "shipped"),
        date_id=lines["date_time"].str[:10].str.replace("-", "").astype("int32"),
        **{name: lines[name].fillna("") for name in _NAMES},
    ).rename(columns={"id": "line_no"})
    lines = lines.drop_duplicates(lines.columns.difference(["line_no"]), keep="last")
    return lines.drop_duplicates(["date_id", "uniq_id", "status"], keep=False)


def _rendered(file: str) -> str:
    """Return SQL of the dbt project, rendered as dbt would send it."""
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(_PROJECT), autoescape=False)
    macros = "{% from 'macros/latest_name.sql' import latest_name with context %}"
    text = macros + (_PROJECT / file).read_text(encoding="utf-8")
    return templates.from_string(text).render(ref=lambda name: f"mart.{name}", config=lambda **_: "")


if __name__ == "__main__":
    main(sys.argv[1:])
