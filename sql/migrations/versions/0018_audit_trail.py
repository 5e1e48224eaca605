"""The audit trail: rejected rows that were reopened, and changes on the admin pages of the mailings."""

from sales_assets.postgres.migrations import statements_of

revision = "0018"
down_revision = "0017"
upgrade, downgrade = statements_of(__file__)
