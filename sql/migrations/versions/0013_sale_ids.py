"""Ids of mart.f_sales reserved for a whole load at once, also by a role that does not own the sequence."""

from sales_assets.postgres.migrations import statements_of

revision = "0013"
down_revision = "0012"
upgrade, downgrade = statements_of(__file__)
