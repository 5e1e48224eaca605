"""${message}"""

from sales_assets.resources.migrations import statements_of

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
upgrade, downgrade = statements_of(__file__)
