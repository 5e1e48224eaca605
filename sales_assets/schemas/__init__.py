"""What data looks like: columns, types, spellings and the rules of one line.

Belongs here: report files, order events, mailing rows, and pure functions over them.
Does not belong here: I/O, SQL, Dagster, settings.
"""
