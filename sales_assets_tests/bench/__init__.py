"""Benchmarks: ratios measured in one run on one machine, never timed tests. `make bench` runs them.

pytest collects no tests from this folder.
"""
