"""Raw files as the report API delivered them: kept for ever, never edited, each with a number and a manifest."""
