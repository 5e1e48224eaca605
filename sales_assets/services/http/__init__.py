"""HTTP parts shared by all services: application, request limits, bodies, readiness, log, server and client."""
