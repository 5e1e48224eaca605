"""Faults that the simulated report API can inject, to test how a client handles them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Faults:
    """Faults to inject. Rates are shares of the responses, 0 to 1; the default has none.

    Attributes:
        seed: Selects the responses with faults, given the order of the requests.
        slow: Seconds before every response, downloads included.
        trickle: Seconds between the eight pieces in which a file is sent.
        bad_gateway: Rate of responses that are a 502 with an HTML page (the real API: about 1 in 600).
        html: Rate of API responses that are an HTML page with status 200.
        cut: Rate of downloads whose connection ends half-way through the body.
        wrong_length: Bytes by which Content-Length exceeds the length of the file; negative if it is less.
        lost_file: Key name of a file (`price_log_inc`, ...) that is listed in `s3_path`, but whose link returns 404.
        never_ready: Reports stay RUNNING forever.
        expired_links: Number of times that the links of one report or increment are issued expired.
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
