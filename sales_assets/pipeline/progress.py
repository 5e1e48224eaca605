"""Progress of a load, for display in a terminal."""


class Progress:
    """Receiver of a load's progress, which it ignores. The subclass for terminals shows it."""

    def notify(self, text: str) -> None:
        """Receive the current step."""

    def days_ahead(self, number: int) -> None:
        """Receive the number of days to load."""

    def days_done(self, number: int) -> None:
        """Receive the number of days finished since the last call, failed ones included."""
