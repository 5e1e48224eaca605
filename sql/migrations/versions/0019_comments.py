"""The meaning of the tables and columns that no asset describes."""

from sales_assets.postgres.migrations import statements_of

revision = "0019"
down_revision = "0018"
upgrade, downgrade = statements_of(__file__)
