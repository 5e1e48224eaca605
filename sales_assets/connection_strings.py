"""Parse connection strings, with libpq's parser only.

URLs and keyword/value strings are parsed once, here; every driver gets the parsed parameters. Error messages are fixed
sentences, because those of libpq quote the text where parsing stopped, which may be part of the password.
"""

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_SCHEMES = ("postgresql", "postgres")


class ConnectionStringError(ValueError):
    """A connection string is invalid. The message is one sentence and quotes no part of the string."""


def parse(text: str) -> dict[str, str]:
    """Return the libpq parameters of a URL or keyword/value string. Raises `ConnectionStringError`."""
    text = normalize(text)
    try:
        # Without the environment: libpq adds its variables and the service file when it connects.
        parameters = {name: str(value) for name, value in conninfo_to_dict(text).items() if value is not None}
    except ProgrammingError:
        if _is_url(text):
            raise ConnectionStringError(
                "is not a URL that libpq can read; in user, password and database name write % as %25, @ as %40 and "
                "/ as %2F"
            ) from None
        raise ConnectionStringError(
            "must be a postgresql:// URL or libpq's keyword=value pairs (host=... dbname=...)"
        ) from None
    if _is_url(text):
        # A reserved character that is not encoded moves the rest of the password into host, port or database name.
        authority, _, path = text.partition("://")[2].partition("/")
        if authority.count("@") > 1 or "@" in path.partition("?")[0]:
            raise ConnectionStringError(
                "has an @ where it must be encoded; in user, password and database name write @ as %40 and / as %2F"
            )
    for port in parameters.get("port", "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise ConnectionStringError(
                "has a port that is not a number from 1 to 65535; if it is part of the password, write : as %3A, @ as "
                "%40 and / as %2F"
            )
    if any("\0" in value for value in parameters.values()):
        raise ConnectionStringError("contains a NUL character")
    return parameters


def normalize(text: str) -> str:
    """Strip SQLAlchemy's driver suffix (postgresql+psycopg2://), which libpq does not accept."""
    scheme, separator, rest = text.strip().partition("://")
    return f"postgresql://{rest}" if separator and scheme.split("+")[0] in _SCHEMES else text.strip()


def with_database(text: str, database: str) -> str:
    """Return the connection string with another database name and the same other parameters."""
    return make_conninfo(**{**parse(text), "dbname": database})


def without_password(text: str) -> tuple[str, str | None]:
    """Split a connection string into parameters for a command line, which other users can see, and the password.

    Raises `ConnectionStringError` for `sslpassword`, which no environment variable can carry.
    """
    parameters = parse(text)
    if "sslpassword" in parameters:
        raise ConnectionStringError("has an sslpassword, which other users of this machine would see")
    password = parameters.pop("password", None)
    return make_conninfo(**parameters), password


def _is_url(text: str) -> bool:
    return text.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))
