"""Compare a dagster.yaml with the templates, key by key; comments don't count."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sales_assets.deploy.instance import configuration_text
from sales_assets.deploy.templates import Template

# {fingerprint of a file that earlier versions wrote: the last of these versions}
_EARLIER = {"bd9c5a13a0bdc35e": "0.1.0"}


@dataclass(frozen=True)
class Comparison:
    """The template most similar to a configuration, and the differences from it.

    earlier_version: version that wrote exactly this file, if any.
    """

    template: Template
    differences: list[str]
    earlier_version: str | None


def compare(configuration: Mapping[str, Any]) -> Comparison:
    """Compare a configuration with all templates, and return the comparison with the fewest differences."""
    found = [
        (list(_differences("", configuration, dg.config_from_yaml_strings([configuration_text(template)]))), template)
        for template in Template
    ]
    differences, template = min(found, key=lambda pair: len(pair[0]))
    return Comparison(template, differences, _EARLIER.get(fingerprint(configuration)))


def fingerprint(configuration: Mapping[str, Any]) -> str:
    """Hash a configuration without its SALES_HOME."""
    folderless = json.loads(json.dumps(configuration), object_hook=_without_sales_home)
    return hashlib.sha256(json.dumps(folderless, sort_keys=True).encode()).hexdigest()[:16]


def _without_sales_home(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != "sales_home"}


def _differences(path: str, ours: Any, theirs: Any) -> Iterator[str]:
    """Yield differences by their keys. Values are shown only where both are numbers: others may be secrets."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            name = f"{path}.{key}" if path else str(key)
            if key == "sales_home":
                continue  # optional, and compared with the settings
            if key not in theirs:
                yield f"{name} is added"
            elif key not in ours:
                yield f"{name} is missing"
            else:
                yield from _differences(name, ours[key], theirs[key])
    elif ours != theirs or type(ours) is not type(theirs):
        shown = isinstance(ours, int) and isinstance(theirs, int)  # bool is an int
        yield f"{path} is {_yaml(ours)} instead of {_yaml(theirs)}" if shown else f"{path} differs"


def _yaml(value: int) -> str:
    return json.dumps(value)
