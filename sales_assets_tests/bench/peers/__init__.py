"""The job of `sales-assets load` done with other tools: dlt + dbt, and pandas.

Belongs here: what a competent user of each would write, the environment it needs, and that its mart equals ours.
Does not belong here: clocks and tables (`measuring`).
"""
