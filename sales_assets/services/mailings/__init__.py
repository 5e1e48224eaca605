"""The mailings service: clients, mailings to a selection of them, and the resulting messages.

Belongs here: the HTTP interface, the admin page, and the dispatch through Celery. Does not belong here: what the marts
say about clients (`sales_assets.defs.mailings`); the two meet in the tables of the schema ``mailings``.
"""
