"""The modules of sales_assets as syntax trees: imports and texts, without running the modules."""

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
        """Return the top-level folder of the module, or the module's name if it is not in a folder."""
        return self.name.split("/")[0].removesuffix(".py")

    def nodes(self, kind: type[Node]) -> Iterator[Node]:
        """Yield all nodes of one kind."""
        return (node for node in ast.walk(self.tree) if isinstance(node, kind))

    def imports(self) -> Iterator[str]:
        """Yield the dotted names of imports, at the top or inside functions."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.name}: a relative import"
                module = node.module or ""
                # `from sales_assets import settings` names its module last.
                yield from ([f"{module}.{alias.name}" for alias in node.names] if "." not in module else [module])

    def parts_imported(self) -> set[str]:
        """Return the other parts of sales_assets that the module imports."""
        names = [name.split(".") for name in self.imports()]
        return {name[1] for name in names if name[0] == "sales_assets" and len(name) > 1} - {self.part}

    def libraries_imported(self) -> set[str]:
        return {name.split(".")[0] for name in self.imports()} - {"sales_assets"}


@functools.cache
def modules() -> tuple[Module, ...]:
    """Return all modules of the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return tuple(Module(path.relative_to(PACKAGE).as_posix(), _tree(path)) for path in paths)


def undocumented(folder: Path) -> list[str]:
    """Return the files below a folder without a module docstring."""
    return [
        str(path) for path in sorted(folder.rglob("*.py")) if path.read_bytes() and not ast.get_docstring(_tree(path))
    ]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
