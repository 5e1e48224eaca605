"""Marts: customers per week and item, and what became of the messages of mailings."""

from sales_assets.postgres.migrations import statements_of

revision = "0007"
down_revision = "0006"
upgrade, downgrade = statements_of(__file__)
