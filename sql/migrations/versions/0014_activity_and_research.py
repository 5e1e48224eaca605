"""Marts: what customers did on a day, and sales by category and region."""

from sales_assets.postgres.migrations import statements_of

revision = "0014"
down_revision = "0013"
upgrade, downgrade = statements_of(__file__)
