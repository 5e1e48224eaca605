"""Partner orders: one state per order, including cancels and their unknown outcomes; open orders are polled."""

from sales_assets.postgres.migrations import statements_of

revision = "0009"
down_revision = "0008"
upgrade, downgrade = statements_of(__file__)
