"""Kept fetches, typed lines, quarantine."""

from sales_assets.postgres.migrations import statements_of

revision = "0002"
down_revision = "0001"
upgrade, downgrade = statements_of(__file__)
