"""Calendar, cities, customers, items."""

from sales_assets.postgres.migrations import statements_of

revision = "0003"
down_revision = "0002"
upgrade, downgrade = statements_of(__file__)
