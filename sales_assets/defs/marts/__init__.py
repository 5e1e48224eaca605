"""Marts made of the facts: what a reader would otherwise sum up again and again.

Belongs here: the assets, their checks, and what sets them off. Does not belong here: what services leave behind
(``orders``, ``mailings``), or statements (``sql/mart``).
"""
