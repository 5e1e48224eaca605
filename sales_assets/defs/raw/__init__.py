"""Raw files as the report API delivered them: kept permanently, never edited, each with a number and a manifest."""
