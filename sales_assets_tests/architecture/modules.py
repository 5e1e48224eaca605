"""The modules of sales_assets as syntax trees: what they import and say, without running them."""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sales_assets

Node = TypeVar("Node", bound=ast.AST)

PACKAGE = Path(sales_assets.__file__).parent
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Module:
    """A module of the package; `name` is its path below sales_assets, such as ``defs/mart/f_sales.py``."""

    name: str
    tree: ast.Module

    @property
    def part(self) -> str:
        """The folder of the package that it belongs to, or its own name beside the folders."""
        return self.name.split("/")[0].removesuffix(".py")

    def nodes(self, kind: type[Node]) -> Iterator[Node]:
        """All nodes of one kind."""
        return (node for node in ast.walk(self.tree) if isinstance(node, kind))

    def imports(self) -> Iterator[str]:
        """The dotted names of what is imported, at the top or inside functions."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.name}: a relative import"
                module = node.module or ""
                # `from sales_assets import settings` names its module last.
                yield from ([f"{module}.{alias.name}" for alias in node.names] if "." not in module else [module])

    def parts_imported(self) -> set[str]:
        """The other parts of sales_assets that it imports."""
        names = [name.split(".") for name in self.imports()]
        return {name[1] for name in names if name[0] == "sales_assets" and len(name) > 1} - {self.part}

    def libraries_imported(self) -> set[str]:
        return {name.split(".")[0] for name in self.imports()} - {"sales_assets"}


@functools.cache
def modules() -> tuple[Module, ...]:
    """All modules of the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return tuple(Module(path.relative_to(PACKAGE).as_posix(), _tree(path)) for path in paths)


def undocumented(folder: Path) -> list[str]:
    """The files below a folder that don't say at their top what they are."""
    return [
        str(path) for path in sorted(folder.rglob("*.py")) if path.read_bytes() and not ast.get_docstring(_tree(path))
    ]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
