"""The work of `sales-assets load` done with other tools: dlt + dbt, and pandas."""
