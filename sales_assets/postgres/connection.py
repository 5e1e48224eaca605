"""Connecting to PostgreSQL, with patience for a server that is restarting and none for a wrong address.

Does not belong here: which server (`sales_assets.database`), or what is done there (`warehouse`, `migrations`).
"""

from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping
from psycopg.rows import dict_row
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

_RESTART_SECONDS = 20
_CONNECT_SECONDS = 10


def connect(url: str, purpose: str) -> psycopg.Connection[dict[str, Any]]:
    """Open a connection named `purpose`; rows come as mappings. Raises `psycopg.OperationalError`.

    A server that can't be reached or is starting up is tried for 20 s; a wrong password, role or database name, or a
    host that nobody knows, fails at once.
    """
    # 63 bytes is what PostgreSQL keeps of an application name.
    conninfo = make_conninfo(url, application_name=purpose[:63], connect_timeout=_CONNECT_SECONDS)

    def attempt() -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(conninfo, row_factory=dict_row)

    def is_away(error: BaseException) -> bool:
        # Without a pgconn nothing was connected to: the host is unknown.
        if not isinstance(error, psycopg.OperationalError) or error.pgconn is None:
            return False
        # libpq hands on no SQLSTATE of a refused connection, and its text depends on the server's language.
        return PGconn.ping(conninfo.encode()) in (Ping.REJECT, Ping.NO_RESPONSE)

    retrying = Retrying(
        retry=retry_if_exception(is_away),
        stop=stop_after_delay(_RESTART_SECONDS),
        wait=wait_exponential_jitter(multiplier=0.1, max=2, jitter=0.2),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except psycopg.OperationalError:
        return attempt()  # the server may have come up between the refusal and the ping
