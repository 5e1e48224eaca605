"""Catalog of the lake: where PyIceberg, and engines that read its catalog, find the current state of each table."""

from sales_assets.postgres.migrations import statements_of

revision = "0015"
down_revision = "0014"
upgrade, downgrade = statements_of(__file__)
