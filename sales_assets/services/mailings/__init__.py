"""The mailings service: clients, mailings to a selection of them, and the resulting messages.

HTTP interface, admin page, and dispatch through Celery. The client's tags come from `sales_assets.defs.mailings`, which
shares only the tables of the schema ``mailings`` with the service.
"""
