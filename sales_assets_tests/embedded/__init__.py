"""Tests of sales_assets.embedded, each against real servers."""
