"""The doors to the outside, one class each: report API, raw files, warehouse.

Belongs here: connecting, asking, keeping, and telling permanent from transient failures.
Does not belong here: what a right mart is (``sql/`` and ``defs``), or when something runs (``defs``).
"""
