"""A stand-in for the partner's API, with faults on request: to try the partner orders without a real partner.

Belongs here: what the partner says over HTTP, and what it can be made to do wrong. Does not belong here: anything that
asks it (`sales_assets.services.partner_orders`); the two meet over HTTP only.
"""
