"""f_sales learns status and source; old readers and writers go on."""

from sales_assets.postgres.migrations import statements_of

revision = "0004"
down_revision = "0003"
upgrade, downgrade = statements_of(__file__)
