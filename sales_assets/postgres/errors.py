"""What PostgreSQL says about an error."""


def server_message(error: BaseException) -> list[str]:
    """Return the server's message, detail and hint, as far as a driver's exception has them.

    The exception's own text repeats the statement, with a caret.
    """
    diagnosis = getattr(error, "diag", None)
    parts = (getattr(diagnosis, f"message_{part}", None) for part in ("primary", "detail", "hint"))
    return [part for part in parts if part]
