"""Tests of `sales_assets.deploy`."""
