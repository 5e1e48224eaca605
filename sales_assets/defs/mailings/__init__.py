"""What the mailings are given: which customer a client is, and the tags that sales make.

Belongs here: keys, specs and checks of ``mailings.*``, and the op that fills them. Does not belong here: what became of
the messages (`defs.mart.f_mailing_deliveries`), or the service that sends (`sales_assets.services.mailings`), which
Dagster never imports; the two meet in the tables of the schema ``mailings``.
"""
