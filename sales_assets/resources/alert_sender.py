"""Process that sends messages by Apprise: ``python -m sales_assets.resources.alert_sender``.

It is a separate process, which the parent can kill, because a receiver that never completes its response would block a
thread of Apprise. No other module imports Apprise; loading its plugins takes a second.

stdin is JSON: ``[{"url": ..., "messages": [{"title": ..., "text": ..., "kind": ...}]}]``. stdout has a JSON line for
each attempted message: the number of the receiver, and the error or null.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import apprise


def main() -> None:
    """Send the messages of stdin, to all receivers at once and to each in order until one fails."""
    # Apprise's log contains URLs.
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    logging.getLogger("apprise").propagate = False
    printing = threading.Lock()

    def send_all(number: int, url: str, messages: Sequence[Mapping[str, str]]) -> None:
        for message in messages:
            error = _send(url, message)
            with printing:
                sys.stdout.write(json.dumps({"receiver": number, "error": error}) + "\n")
                sys.stdout.flush()
            if error:
                return

    requests: list[dict[str, Any]] = json.load(sys.stdin)
    apprise.Apprise().add("json://127.0.0.1")  # loads the plugins, in one thread
    threads = [
        threading.Thread(target=send_all, args=(number, request["url"], request["messages"]))
        for number, request in enumerate(requests)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)  # Python would wait for Apprise's threads


def _send(url: str, message: Mapping[str, str]) -> str | None:
    """Send one message; return the reason if it was not delivered."""
    # Nothing is stored on disk, neither here nor by plugins.
    asset = apprise.AppriseAsset(app_id="sales_assets", app_desc="sales_assets", storage_mode="memory")
    receiver = apprise.Apprise(asset=asset)
    try:
        if not receiver.add(url):
            return "Apprise can't read the URL"
        result = receiver.notify(
            title=message["title"], body=message["text"], notify_type=message["kind"], body_format="text"
        )
    except Exception as error:  # noqa: BLE001  a plugin may raise anything
        return f"{type(error).__name__}: {error}"
    if result:
        return None
    reasons = [entry.message for entry in result.logs()]
    return "; ".join(reasons) or "the receiver refused the message"


if __name__ == "__main__":
    main()
