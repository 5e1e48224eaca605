"""HTTP parts shared by all services: application, request limits, bodies, readiness, log, server and client.

Does not belong here: the endpoints of any service.
"""
