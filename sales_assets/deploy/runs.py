"""Run jobs of the code location in this process, and say why they failed."""

from collections.abc import Sequence

import dagster as dg

from sales_assets.pipeline.progress import Progress

# Events of lower levels would drown the terminal's own output.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_job(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    tags: dict[str, str],
    progress: Progress | None = None,
    selection: Sequence[dg.AssetKey] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process, silently; `tags` name the partitions, `selection` some of the job's assets."""
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        tags=tags,
        asset_selection=selection,
        raise_on_error=False,
        run_config=QUIET,
        resources={"progress": progress} if progress else None,
    )


def failures_of(run: dg.ExecuteInProcessResult) -> list[str]:
    """Why the run failed, in the words of its ops; the stack traces are in the UI."""
    told = []
    for event in run.all_events:
        if not event.is_step_failure:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            told.append(data.user_failure_data.description)
        elif data.error is not None:
            cause = data.error.cause or data.error
            # "package.module.Kind: what happened": the kind is for programmers.
            kind, _, text = cause.message.strip().partition(": ")
            told.append(text if text and kind.rpartition(".")[2] == cause.cls_name else cause.message.strip())
    return told or ([] if run.success else ["the run failed; its log in the UI says why"])
