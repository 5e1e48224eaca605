"""PostgreSQL: connections, named queries, migrations, binary COPY, and the embedded server."""
