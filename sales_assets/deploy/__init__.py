"""Deployment of Dagster: instance, storage, run launchers, daemon, UI and backups."""
