"""Tests of the steward's pages."""
