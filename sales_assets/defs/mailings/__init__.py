"""Audience of the mailings: links of clients to customers, and tags derived from sales.

Dagster and the service that sends (`sales_assets.services.mailings`) never import each other; they share only the
tables of the schema ``mailings``.
"""
