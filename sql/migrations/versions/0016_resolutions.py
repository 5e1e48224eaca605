"""Resolutions of rejected rows with their users and the days they change; logins of the admin pages."""

from sales_assets.postgres.migrations import statements_of

revision = "0016"
down_revision = "0015"
upgrade, downgrade = statements_of(__file__)
