"""Run jobs of the code location in this process, and list the reasons of failures."""

import uuid
from collections.abc import Iterable, Sequence

import dagster as dg

from sales_assets.deploy.run_lock import command_lock
from sales_assets.pipeline.progress import Progress

# Events of lower levels would clutter the terminal.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_job(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    tags: dict[str, str],
    progress: Progress | None = None,
    selection: Sequence[dg.AssetKey] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process without output; `tags` name the partitions; `selection` limits its assets.

    The process holds the run's lock (`run_lock`): without it, the run launchers report the run as lost.
    """
    run_id = str(uuid.uuid4())
    with command_lock(instance, run_id) as lock_tags:
        return definitions.resolve_job_def(job).execute_in_process(
            run_id=run_id,
            instance=instance,
            tags={**tags, **lock_tags},
            asset_selection=selection,
            raise_on_error=False,
            run_config=QUIET,
            resources={"progress": progress} if progress else None,
        )


def failures_of(run: dg.ExecuteInProcessResult) -> list[str]:
    """List the reasons of a failed run: the errors of its ops, without stack traces, which the UI shows."""
    return reasons(run.all_events) or ([] if run.success else ["the run failed; see its log in the UI"])


def reasons(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """List the reasons of failed steps."""
    found = []
    for event in events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            found.append(data.user_failure_data.description)
        elif data.error is not None:
            cause = data.error.cause or data.error
            # "package.module.ErrorType: message": only the message is for users.
            kind, _, text = cause.message.strip().partition(": ")
            found.append(text if text and kind.rpartition(".")[2] == cause.cls_name else cause.message.strip())
    return found
