"""Launch runs as processes of the code server, and detect runs whose code server has died."""

from typing import Any

import dagster as dg

from sales_assets.dagster_internals import (
    CheckRunHealthResult,
    DagsterUserCodeUnreachableError,
    WorkerStatus,
    executes,
)
from sales_assets.deploy.run_lock import is_lost

# The monitor checks every 10 s (`poll_interval_seconds` in dagster.yaml); a busy code server may miss one check.
_SILENT_LOOKS = 3


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Dagster's default run launcher, with a health check for its run monitor.

    A code server reports runs whose process died. If the code server itself dies, as in a power cut, Dagster leaves its
    runs "started" permanently, and two of them block a queue with `max_concurrent_runs: 2`.
    """

    def __init__(self, inst_data: Any = None) -> None:
        super().__init__(inst_data)
        self._silent: dict[str, int] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Query the code server that started the run, or look for the run's lock if a command executes it.

        A server that was restarted on the same port responds, but does not know the run. A server on a socket is only
        pinged: a restarted one has another socket, and the server of `sales-assets dev` no longer knows its runs after
        it has reloaded the code.
        """
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        try:
            if client is None:
                lost = "its process was lost" if is_lost(self._instance, run) else None
            elif client.port is None:
                client.ping("")
                lost = None
            else:
                lost = None if executes(client, run.run_id) else "its code server was restarted"
        except DagsterUserCodeUnreachableError:
            lost = "its code server no longer responds"
        if lost is None:
            self._silent.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        looks = self._silent[run.run_id] = self._silent.get(run.run_id, 0) + 1
        if looks < _SILENT_LOOKS:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, lost)
