"""People's rights: phones that no mailing reaches, and customers and phones that were erased."""

from sales_assets.postgres.migrations import statements_of

revision = "0017"
down_revision = "0016"
upgrade, downgrade = statements_of(__file__)
