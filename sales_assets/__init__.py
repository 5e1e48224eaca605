"""The sales platform: a shop's sales reports in, a sales mart that people trust out.

The tree is the data's journey. ``contracts`` says what data looks like, ``resources`` are the doors to the
outside, ``defs`` holds the assets stage by stage, ``services`` are long-running programs that Dagster never
imports, and ``sql/`` beside this package holds every statement.
"""
