"""Remove credentials from the messages of libraries before they are shown, logged or stored.

`sales_assets.settings` defines which settings are secret.
"""

import json
import os
import re
from collections.abc import Iterable

HIDDEN = "***"

_URL = re.compile(r"""\b([a-z][a-z0-9+.-]*)://([^\s"'<>]*)""", re.IGNORECASE)
_NAMES = (
    r"[\w.-]*(?:secret|passw|pwd|token|signature|credential|authorization|"
    r"api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|shared[_-]?access|\bsig\b)[\w.-]*"
)
# name=value, "name": "value", <Name>value</Name>. The value of a header such as Authorization has spaces in it.
_QUOTED = re.compile(rf"""(["'])({_NAMES})\1(\s*[:=]\s*)(["']).*?\4""", re.IGNORECASE)
_HEADER = re.compile(r"""(authorization\s*[:=]\s*)[^"'\n]*""", re.IGNORECASE)
_ASSIGNED = re.compile(rf"""({_NAMES}\s*[:=]\s*)(?:'(?:[^'\\]|\\.)*'|[^\s"'&;,<>]+)""", re.IGNORECASE)
# The query of a path without scheme and host.
_QUERY = re.compile(r"\?[\w.~%-]+=[^\s'\")]*")
_TAGGED = re.compile(rf"(<({_NAMES})>).*?(</\2>)", re.IGNORECASE | re.DOTALL)
_AWS_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")

# An apostrophe within a word, as in "isn't", is not a quote.
_PERSONAL = (
    (re.compile(r"""(?<!\w)(['"])(?:\\.|(?!\1).)*?\1(?!\w)"""), "'...'"),
    (re.compile(r"""(?<!\w)['"](?=\w).*"""), "'..."),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"), "..."),
    (re.compile(r"\+\d[\d ()-]{8,}\d|\b\d[ -]?\(\d{3}\)[\d -]{6,}\d|\b\d{10,}\b"), "..."),
)

_SECRET_VARIABLE = re.compile(r"secret|passw|token|key|credential|connection_string|sas", re.IGNORECASE)
# Shorter values occur in ordinary words.
_SHORTEST_SECRET = 6


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Remove from a text: these secrets, secrets of the environment, and user, password and query of URLs."""
    for secret in sorted({*secrets, *_secrets_of_the_environment()}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _QUERY.sub(f"?{HIDDEN}", _URL.sub(_bare_url, text))


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """Remove these secrets, and everything that looks like a credential, from a library's message."""
    text = without_secrets(text, secrets)
    text = _TAGGED.sub(rf"\1{HIDDEN}\3", text)
    text = _QUOTED.sub(rf"\1\2\1\3\4{HIDDEN}\4", text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
    return _AWS_KEY_ID.sub(HIDDEN, text)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the first line of a reason without secrets and personal data, for receivers outside the platform.

    Quoted text, mail addresses and numbers as long as a phone number are left out, because a reason may quote a file's
    line, a name or a server's response. < > and @ are replaced, because receivers interpret them.
    """
    line = scrubbed(next(iter(text.strip().splitlines()), ""), secrets)
    for pattern, replacement in _PERSONAL:
        line = pattern.sub(replacement, line)
    return line.replace("<", "(").replace(">", ")").replace("@", "(at)")


def _bare_url(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    # A password may contain a slash or a question mark, and a query an @: with both, the parts can't be told apart.
    if "@" in rest and "?" in rest:
        return f"{scheme}://{HIDDEN}"
    return f"{scheme}://" + rest.rpartition("@")[2].partition("?")[0].partition("#")[0]


def _secrets_of_the_environment() -> set[str]:
    """Collect the values that storage libraries use as credentials: AWS_SECRET_ACCESS_KEY, those in FSSPEC_S3, etc."""
    found = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name)}
    for name, value in os.environ.items():
        if name.startswith("FSSPEC_"):
            try:
                options = json.loads(value)
            except ValueError:
                continue
            if isinstance(options, dict):
                found |= {str(option) for key, option in options.items() if _SECRET_VARIABLE.search(key)}
    return {value for value in found if len(value) >= _SHORTEST_SECRET}
