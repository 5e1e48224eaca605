"""Assets of the lake, with their sensor and maintenance. They are defined only if LAKE_URL is set.

Dagster loads only the `@dg.definitions` function of each module, which returns nothing without LAKE_URL. The module
`sales_assets.resources.lake` reads and writes the lake; only runs import it.
"""
