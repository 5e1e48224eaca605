"""Long-running services. Dagster never imports them: assets and services exchange data through tables or HTTP."""
