"""Mailings: clients, mailings, a message per recipient, and the tags that the marts give."""

from sales_assets.postgres.migrations import statements_of

revision = "0006"
down_revision = "0005"
upgrade, downgrade = statements_of(__file__)
