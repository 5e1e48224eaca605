"""CI workflow: no findings of actionlint, and every check is in .ci/run, which can run on any machine."""

import pytest
import yaml

from sales_assets_tests.deploy.artefacts import DEPLOY, run, tool

ROOT = DEPLOY.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.external
def test_actionlint_finds_nothing() -> None:
    # By default actionlint also runs shellcheck and pyflakes if they are installed.
    done = run(tool("actionlint"), "-shellcheck=", "-pyflakes=", *WORKFLOWS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_workflow_only_runs_the_ci_script() -> None:
    (workflow,) = WORKFLOWS
    steps = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]["check"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
