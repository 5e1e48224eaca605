"""survivors.md lists only mutants of existing code lines; samples of mutants are reproducible."""

from pathlib import Path

import pytest

from sales_assets_tests.mutants.__main__ import KNOWN, explained, mutants_of, sample

PROJECT = Path(__file__).resolve().parents[2]
LISTED = sorted(explained(KNOWN.read_text(encoding="utf-8")))


@pytest.mark.parametrize(("path", "function", "difference"), LISTED)
def test_listed_mutant_changes_an_existing_line(path: str, function: str, difference: str) -> None:
    source = [line.strip() for line in (PROJECT / path).read_text(encoding="utf-8").splitlines()]
    original = [line[2:] for line in difference.splitlines() if line.startswith("- ")]
    assert original
    assert set(original) <= set(source)
    assert f"def {function.rpartition('.')[2]}(" in "\n".join(source)


def test_survivors_file_is_parsed() -> None:
    text = """# Title
## `a/b.py`
A reason.
```diff
@@ C.f
- x = 1
+ x = 2
@@ g
- y(
- z)
+ y(z)
```
Another.
```diff
@@ C.f
- x = 1
+ x = None
```
## `a/c.py`
```diff
@@ g
- return
+ pass
```
"""
    assert explained(text) == {
        ("a/b.py", "C.f", "- x = 1\n+ x = 2"),
        ("a/b.py", "g", "- y(\n- z)\n+ y(z)"),
        ("a/b.py", "C.f", "- x = 1\n+ x = None"),
        ("a/c.py", "g", "- return\n+ pass"),
    }


@pytest.mark.parametrize(
    "module", ["sales_assets.pipeline.sums", "sales_assets/pipeline/sums.py", "sales_assets/pipeline/sums"]
)
def test_a_module_is_given_by_name_or_path(module: str) -> None:
    assert mutants_of(module) == "sales_assets.pipeline.sums.*"
    assert mutants_of("sales_assets/pipeline/") == "sales_assets.pipeline.*"


def test_sample_of_each_module_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)  # mutmut reads its settings from the working directory
    modules = "sales_assets.pipeline.hashing.*", "sales_assets.pipeline.memory.*"
    drawn = sample(modules, 3, seed=1)
    assert [name.partition(".x")[0] + ".*" for name in drawn] == [module for module in modules for _ in range(3)]
    assert len(set(drawn)) == 6
    assert sample(modules, 3, seed=1) == drawn
    assert sample(modules, 3, seed=2) != drawn
    everything = [sample(modules, 10_000, seed=seed) for seed in (1, 2)]
    assert set(drawn) < set(everything[0]) == set(everything[1])
