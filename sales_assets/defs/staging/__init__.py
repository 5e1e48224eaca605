"""Staging assets: typed, deduplicated rows. Rejected rows stay in quarantine and never reach the mart."""
