"""Tests, under the folder names of what they test, on the real parts: PostgreSQL, HTTP over loopback, a browser."""
