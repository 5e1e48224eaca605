"""Progress of a load, for a terminal that shows it."""


class Progress:
    """Receives the progress of a load. The default ignores it; the terminal's version overrides the methods."""

    def say(self, text: str) -> None:
        """Receive what is being done now."""

    def days_ahead(self, number: int) -> None:
        """Receive how many days the range has."""

    def days_done(self, number: int) -> None:
        """Receive how many further days are finished, failed ones included."""
