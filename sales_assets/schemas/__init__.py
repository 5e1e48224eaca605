"""Data contracts: report files, responses of the report API, order events. Pure: no I/O, SQL, Dagster or settings."""
