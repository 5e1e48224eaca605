"""Imported by the process that victims are forked from, and by nothing else: importing it is the work."""

from sales_assets_tests.faults.subprocess_targets import preload

preload()
