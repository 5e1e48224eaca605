"""Reports of the mart, refreshed by automation conditions. They are defined only if the extra [reports] is installed.

Dagster loads only the `@dg.definitions` function of each module. `sales_assets.reports` computes the figures, draws the
charts and writes the page.
"""
