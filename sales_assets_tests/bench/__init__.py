"""Benchmarks: ratios measured in one run on one machine, never timed tests. `make bench` runs them.

Pytest collects nothing from this folder.
"""
