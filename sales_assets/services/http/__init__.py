"""The HTTP parts that all services share: application, request limits, bodies, readiness, log and server.

Does not belong here: the endpoints of any service.
"""
