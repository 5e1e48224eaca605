"""The wheel, where it needs more than pyproject.toml can say; all else stands there."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithSurroundings(build_py):
    """Takes into the package what stands beside it in a checkout; an installed package has no beside.

    That is sql/, and pyproject.toml: Dagster looks above the definitions for its [tool.dg].
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for file in self._surroundings():
                target = Path(self.build_lib, "sales_assets", file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *self._surroundings()]

    @staticmethod
    def _surroundings() -> list[str]:
        statements = (path for path in Path("sql").rglob("*") if path.suffix in (".sql", ".py", ".mako"))
        return ["pyproject.toml", *sorted(map(str, statements))]


setup(cmdclass={"build_py": BuildWithSurroundings})
