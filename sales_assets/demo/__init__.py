"""The demo: start the whole platform on generated data and simulators, run its steps, stop it without leftovers.

`sales_assets.cli.demo` prints the results.
"""
