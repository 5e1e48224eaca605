"""Deliveries apart from contents: repeated contents are kept once, resolutions of rejected rows are inherited."""

from sales_assets.postgres.migrations import statements_of

revision = "0008"
down_revision = "0007"
upgrade, downgrade = statements_of(__file__)
