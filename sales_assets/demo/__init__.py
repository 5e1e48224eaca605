"""What `sales-assets demo` shows: the whole platform on generated data, against simulators, with nothing left behind.

Belongs here: starting the parts, ending them, and the steps that are shown. Does not belong here: options and printing
(`sales_assets.cli.demo`).
"""
