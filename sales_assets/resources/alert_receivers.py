"""Receivers of alerts: the URLs of ALERT_URLS, to which a child process sends messages by Apprise."""

import functools
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sales_assets.scrubbing import scrubbed, without_secrets
from sales_assets.settings import SettingsError, definition_settings, secret_parts, secrets_in_force

# Slack, Teams and Telegram cut or refuse longer messages.
_LONGEST_TEXT = 3000
_LONGEST_ERROR = 300
_SENDER = "sales_assets.resources.alert_sender"


@dataclass(frozen=True)
class Message:
    """One message: plain text. `kind` decides the colour or the icon that a receiver shows."""

    title: str
    text: str
    kind: Literal["failure", "success", "info"] = "info"


@dataclass(frozen=True)
class Delivery:
    """Result of sending to a receiver: the number of delivered messages, and the error of the next message."""

    delivered: int
    error: str | None = None


class Receivers:
    """The receivers, named by position and scheme such as "2 (slack)", because the rest of a URL may be secret.

    Names are shown in messages and logs. The state of the alerts is stored by identity, which does not depend on the
    position.
    """

    def __init__(self) -> None:
        """Raise `SettingsError` if the optional package is missing."""
        if importlib.util.find_spec("apprise") is None:
            raise SettingsError(
                "ALERT_URLS needs the extra [alerts] (pip install '.[alerts]'): apprise is not installed"
            )
        urls = definition_settings().alert_receivers
        self._urls = {f"{number} ({_scheme(url)})": url for number, url in enumerate(urls, start=1)}

    @property
    def names(self) -> list[str]:
        return list(self._urls)

    def identities(self, salt: str) -> dict[str, str]:
        """Return {identity: name} under a secret salt. A URL that is given twice is one receiver."""
        return {f"{_scheme(url)} {_digest(salt, url)}": name for name, url in self._urls.items()}

    def send(self, messages: Mapping[str, Sequence[Message]], seconds: float) -> dict[str, Delivery]:
        """Send messages to receivers, all at once and each in order; never longer than `seconds`.

        A receiver that fails or hangs gets no further messages and affects no other. A message whose
        delivery was not confirmed in time counts as not delivered.
        """
        receivers = [name for name in self._urls if messages.get(name)]
        if not receivers:
            return {}
        requests = [
            {"url": self._urls[name], "messages": [_shown(message) for message in messages[name]]} for name in receivers
        ]
        output, stop = _send(json.dumps(requests), seconds)
        results: dict[str, list[str | None]] = {name: [] for name in receivers}
        for line in output.splitlines():
            result = json.loads(line)
            results[receivers[result["receiver"]]].append(result["error"])
        return {name: self._delivery(name, found, len(messages[name]), stop) for name, found in results.items()}

    def _delivery(self, name: str, results: Sequence[str | None], wanted: int, stop: str) -> Delivery:
        delivered = results.count(None)
        error = next((error for error in results if error is not None), None if delivered == wanted else stop)
        if error is None:
            return Delivery(delivered)
        secrets = {*secrets_in_force(), *secret_parts(self._urls[name])}
        return Delivery(delivered, scrubbed(" ".join(error.split()), secrets)[:_LONGEST_ERROR])


def _send(requests: str, seconds: float) -> tuple[str, str]:
    """Run the sender for at most `seconds`; return its output, and the reason if output is missing."""
    # The URLs are passed by stdin, because every user can read a command line. Apprise's log may contain them.
    process = subprocess.Popen(
        [sys.executable, "-m", _SENDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )
    try:
        output, _ = process.communicate(requests, timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        # The last line may have been cut.
        return output[: output.rfind("\n") + 1], f"no response within {seconds:.0f} s"
    return output, f"the sender exited with code {process.returncode}"


def _shown(message: Message) -> dict[str, str]:
    secrets = secrets_in_force()
    text = without_secrets(message.text, secrets)
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}\n..."
    return {"title": without_secrets(message.title, secrets), "text": text, "kind": message.kind}


@functools.lru_cache(maxsize=64)
def _digest(salt: str, url: str) -> str:
    """Identify a URL without revealing it.

    Slow and salted: a mail URL contains a password chosen by a user, which a fast digest would allow guessing.
    """
    return hashlib.scrypt(url.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=8).hex()


def _scheme(url: str) -> str:
    return re.split(r"://", url, maxsplit=1)[0].lower()
