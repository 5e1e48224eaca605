"""Pseudonyms of erased phones: keyed hashes that identify a phone without storing it."""

import hashlib
import hmac
from collections.abc import Iterable


class Pseudonyms:
    """Pseudonyms made with a secret (SALES_ERASURE_SECRET); without a secret all are None.

    key_id: identifies the secret without revealing it; None without a secret.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.key_id = self._hash("id of the key")[:16] if secret else None

    @property
    def other_secret(self) -> str:
        """Error message for phones that were erased under another secret; it suggests a fix."""
        missing = "SALES_ERASURE_SECRET is not set here, and phones were erased under one"
        other = "phones were erased under another SALES_ERASURE_SECRET than the one that is set here"
        return f"{other if self.key_id else missing}: set it to the value that `sales-assets forget` used"

    def of(self, phone_keys: Iterable[str | None]) -> list[str | None]:
        """Return the pseudonyms of phones, given by the keys of ``mailings.phone_key``; None for None."""
        return [f"erased:{self._hash(f'phone {key}')}" if key and self._secret else None for key in phone_keys]

    def _hash(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
