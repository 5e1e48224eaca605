"""The original mart (docs/data-contracts/day-rules.md, "Mart"); an existing one is examined and left as it is."""

from sales_assets.postgres.migrations import statements_of

revision = "0001"
down_revision = None
upgrade, downgrade = statements_of(__file__)
