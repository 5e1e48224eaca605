"""The sales overview: figures, charts, page, and the asset in Dagster and in a browser."""
