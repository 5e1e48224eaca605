"""Tests, in folders named after the tested packages, with real PostgreSQL, HTTP over loopback and a browser."""
