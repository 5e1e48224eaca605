"""What the command `sales-assets` does, a module per command that is more than a line.

Belongs here: putting settings, Dagster and the warehouse together for a person at a terminal.
Does not belong here: arguments and printing (`sales_assets.cli`), or how anything is loaded (`sales_assets.defs`).
"""
