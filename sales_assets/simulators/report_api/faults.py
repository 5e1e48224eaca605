"""What can be made to go wrong on purpose, so that a client can be seen to cope with it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """Faults of a simulator. Rates are shares of the answers, 0 to 1; the default shows none.

    Attributes:
        seed: Decides which answers the rates hit, given the order of the requests.
        slow: Seconds that every answer, downloads included, waits before it begins.
        trickle: Seconds between the eight pieces in which a file then arrives.
        bad_gateway: Rate of answers that are a 502 with an HTML page (the real service: about 1 in 600).
        html: Rate of API answers that are an HTML page with status 200.
        cut: Rate of downloads whose connection ends half-way through the body.
        wrong_length: Bytes by which Content-Length differs from the file: above 0 the body ends early by it,
            below 0 the client is told to stop before the end of the file.
        lost_file: Key name of a file (`price_log_inc`, ...) that is listed in `s3_path` but answers 404.
        never_ready: Reports stay RUNNING for ever.
        expired_links: How many times the links of one report or increment are handed out already expired.
    """

    seed: int = 0
    slow: float = 0.0
    trickle: float = 0.0
    bad_gateway: float = 0.0
    html: float = 0.0
    cut: float = 0.0
    wrong_length: int = 0
    lost_file: str | None = None
    never_ready: bool = False
    expired_links: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a rate outside 0..1 or a negative time or count."""
        for name in ("bad_gateway", "html", "cut"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a rate from 0 to 1, not {getattr(self, name)}")
        for name in ("slow", "trickle", "expired_links"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")
