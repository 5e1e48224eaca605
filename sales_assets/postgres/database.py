"""Address of the warehouse: from the settings, else that of the embedded server, which is started if needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.settings import settings

WAREHOUSE_DATABASE = "sales"


def embedded() -> EmbeddedPostgres:
    """Return the embedded server of SALES_HOME, running or not."""
    return EmbeddedPostgres(settings().sales_home / "postgres")


@contextmanager
def embedded_running() -> Iterator[None]:
    """Run the embedded server within the block; a server that ran before keeps running."""
    server = embedded()
    was_running = server.is_running()
    try:
        server.ensure_running()
        yield
    finally:
        if not was_running:
            server.stop()


def warehouse_url() -> str:
    """Return a libpq URL of the warehouse; start the embedded server if the settings name no warehouse."""
    given = settings().warehouse_url
    if given is not None:
        return given.get_secret_value()
    server = embedded()
    server.ensure_running()
    return server.url(WAREHOUSE_DATABASE)
