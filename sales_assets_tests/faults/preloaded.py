"""Import target of the forkserver: importing this module loads all that the forked load processes need."""

from sales_assets_tests.faults.subprocess_targets import preload

preload()
