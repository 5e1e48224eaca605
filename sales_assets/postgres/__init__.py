"""PostgreSQL: connections, named statements, COPY, migrations and the embedded server."""
