"""A sales platform on Dagster: from a shop's sales reports to a sales mart that people trust.

``schemas`` describe the data, ``postgres`` and ``resources`` connect to the outside, ``pipeline`` loads days,
``defs`` declares the assets to Dagster, ``services`` are long-running programs that Dagster never imports, and ``sql/``
beside this package holds every statement.
"""
