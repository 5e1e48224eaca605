"""Dagster's instance, storage and processes."""
