"""Raw files as the report API delivered them, each with a number and a manifest; edited only to erase a person."""
