"""Names stored once: staging.user_orders_log holds ids, staging.name each distinct name with the time it was in use."""

from sales_assets.postgres.migrations import statements_of

revision = "0012"
down_revision = "0011"
upgrade, downgrade = statements_of(__file__)
