"""Partner orders: the service's own tables, its events in staging, and their lines behind the mart."""

from sales_assets.postgres.migrations import statements_of

revision = "0005"
down_revision = "0004"
upgrade, downgrade = statements_of(__file__)
