"""A sales platform on Dagster: sales reports and partner orders in, a reconciled sales mart out.

``schemas`` describes the data, ``postgres`` and ``resources`` connect to other systems, ``pipeline`` loads days,
``defs`` declares assets to Dagster, ``services`` holds long-running programs that Dagster never imports. All SQL
statements are in ``sql/`` beside this package.
"""
