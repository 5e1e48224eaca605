"""Messages of PostgreSQL errors."""


def server_message(error: BaseException) -> list[str]:
    """Return the server's message, detail and hint, if a driver's exception has them.

    The exception's text would repeat the statement, with a caret.
    """
    diagnosis = getattr(error, "diag", None)
    parts = (getattr(diagnosis, f"message_{part}", None) for part in ("primary", "detail", "hint"))
    return [part for part in parts if part]
