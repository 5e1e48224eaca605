"""What the mailings are given, and what they leave behind: an audience from the marts, deliveries into a mart.

Belongs here: the assets, their checks, the jobs and the sensors. Does not belong here: the service that sends
(`sales_assets.services.mailings`), which Dagster never imports; the two meet in the tables of the schema ``mailings``.
"""
