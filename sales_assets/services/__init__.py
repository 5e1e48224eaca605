"""Long-running programs. Dagster never imports them: assets and services meet in tables or over HTTP."""
