"""A stand-in for the service that sends messages, with faults on request: to try mailings without sending any.

Belongs here: what the sender says over HTTP, and what it can be made to do wrong. Does not belong here: anything that
asks it (`sales_assets.services.mailings`); the two meet over HTTP only.
"""
