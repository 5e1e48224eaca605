"""The CI workflow: no findings of actionlint, and all checks in .ci/run, which any machine can run."""

import pytest
import yaml

from sales_assets_tests.deploy.artefacts import DEPLOY, run, tool

ROOT = DEPLOY.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.external
def test_actionlint_finds_nothing() -> None:
    # It would also run shellcheck and pyflakes, where they happen to be installed.
    done = run(tool("actionlint"), "-shellcheck=", "-pyflakes=", *WORKFLOWS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_workflow_calls_the_script_that_has_all_checks() -> None:
    (workflow,) = WORKFLOWS
    steps = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]["check"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
