"""Benchmarks: ratios measured in one run on one machine, never timed tests. `make bench` runs them.

Belongs here: what is measured against what, and how often. Does not belong here: assertions; pytest collects nothing
from this folder.
"""
