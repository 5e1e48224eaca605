"""Admin page: sessions that were ended by a logout, so that a copy of their cookie opens nothing."""

from sales_assets.postgres.migrations import statements_of

revision = "0011"
down_revision = "0010"
upgrade, downgrade = statements_of(__file__)
