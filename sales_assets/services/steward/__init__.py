"""Pages for data stewards: rejected rows, their resolutions, and the origin of a day's numbers.

They store resolutions (``postgres/resolutions.py``) and load nothing: the sensor resolved_days loads the days.
"""
