"""What exists and how it is made: the assets of each stage, their checks, and what sets them off.

Read top to bottom it is the data's journey: ``raw`` (files as fetched), ``staging`` (a line once, typed, chosen),
``dims`` and ``facts`` (the mart), ``automation`` (jobs, sensors, schedules). ``day_chain`` is the one op that takes
a day through the stages.
Does not belong here: statements (``sql/``), HTTP and SQL plumbing (``resources``), the rules of one line
(``contracts``).
"""
