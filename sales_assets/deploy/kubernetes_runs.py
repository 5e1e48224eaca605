"""Launch runs as Kubernetes jobs, and report a run as lost if its job has ended, or was not found for minutes.

dagster-k8s reports a run as lost whenever it can't read its job: during a restart of the cluster's API every run would
be repeated while its pod continues, and a run of `sales-assets load`, which has no job, would fail after ten seconds.
"""

from typing import Any

import dagster as dg
from dagster_k8s import K8sRunLauncher

from sales_assets.dagster_internals import CheckRunHealthResult, WorkerStatus
from sales_assets.deploy.run_lock import is_lost

# Five minutes, as the monitor checks every 10 s (`poll_interval_seconds` in dagster.yaml). Upgrades of a control plane
# take minutes; the price is that a deleted job is detected only after this time.
_SILENT_LOOKS = 30


class KubernetesRunLauncher(K8sRunLauncher):
    """dagster-k8s's run launcher with a health check that tolerates an unreachable API of the cluster."""

    def __init__(self, *arguments: Any, **configuration: Any) -> None:
        super().__init__(*arguments, **configuration)
        self._silent: dict[str, int] = {}

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Look for the run's job, or for the run's lock if a command executes it."""
        if run.remote_job_origin is None:  # the daemon launches no such run
            lost = is_lost(self._instance, run)
            found = CheckRunHealthResult(WorkerStatus.UNKNOWN if lost else WorkerStatus.RUNNING, "its process was lost")
        else:
            found = super().check_run_worker_health(run)
        if found.status != WorkerStatus.UNKNOWN:
            self._silent.pop(run.run_id, None)
            return found
        looks = self._silent[run.run_id] = self._silent.get(run.run_id, 0) + 1
        return CheckRunHealthResult(WorkerStatus.RUNNING, found.msg) if looks < _SILENT_LOOKS else found
