"""Messages of PostgreSQL errors."""

import psycopg


def server_message(error: BaseException) -> list[str]:
    """Return the server's message, detail and hint, if a driver's exception has them.

    The exception's text would repeat the statement, with a caret.
    """
    diagnosis = getattr(error, "diag", None)
    parts = (getattr(diagnosis, f"message_{part}", None) for part in ("primary", "detail", "hint"))
    return [part for part in parts if part]


def fault_of_setting(error: BaseException) -> str | None:
    """Return the message of a database function about a wrong setting, such as SALES_ERASURE_SECRET; else None.

    The message quotes no parameter, so that it can be logged. error: psycopg's, or SQLAlchemy's that wraps it.
    """
    cause = getattr(error, "orig", error)
    if not isinstance(cause, psycopg.errors.ObjectNotInPrerequisiteState):
        return None
    return cause.diag.message_primary
