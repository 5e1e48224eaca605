"""Phones: one rule for their spellings, for partner orders and for mailings."""

from sales_assets.postgres.migrations import statements_of

revision = "0010"
down_revision = "0009"
upgrade, downgrade = statements_of(__file__)
