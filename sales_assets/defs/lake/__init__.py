"""Assets of the lake, with their sensor and maintenance. They exist only where LAKE_URL is set.

A module's `@dg.definitions` function is all that Dagster loads of it, so the rest can be declared as usual. Reading and
writing the lake is `sales_assets.resources.lake`, which is imported by runs only.
"""
