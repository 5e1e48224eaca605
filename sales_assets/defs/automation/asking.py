"""Asking for a run once: not while one is under way, and again only with growing pauses.

Belongs here: what a sensor's request has to do with earlier runs for the same news. Does not belong here: what is
news (each sensor's own).
"""

import datetime as dt

import dagster as dg

LONGEST_PAUSE = dt.timedelta(hours=1)

# On every run that a sensor asked for: which news it is for.
NEWS_TAG = "sales_assets/news"


def request_once(
    instance: dg.DagsterInstance, job: str, news: str, *, tags: dict[str, str] | None = None, day: str | None = None
) -> dg.RunRequest | None:
    """A run of the job for this news (any text that names it), unless one is under way or has just ended.

    News that a run did not settle, because it failed or because there is nothing a run could settle, is asked for with
    pauses that double up to an hour.
    """
    tag = {NEWS_TAG: f"{job}.{news}"}
    earlier = instance.get_run_records(dg.RunsFilter(tags=tag))
    if any(not record.dagster_run.is_finished for record in earlier):
        return None
    if earlier:
        pause = min(dt.timedelta(minutes=2 ** min(len(earlier), 10)), LONGEST_PAUSE)
        ended = max(record.update_timestamp for record in earlier)
        if dt.datetime.now(dt.UTC) - ended.replace(tzinfo=dt.UTC) < pause:
            return None
    return dg.RunRequest(run_key=f"{tag[NEWS_TAG]}.{len(earlier)}", partition_key=day, tags={**tag, **(tags or {})})


def is_under_way(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether a run of the job waits or runs, whoever asked for it."""
    unfinished = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
    return bool(instance.get_run_records(dg.RunsFilter(job_name=job, statuses=unfinished), limit=1))


def number_of(data_version: str | None) -> int:
    """The event number that one of our assets gave for its data version; 0 for one that was not given by us."""
    return int(data_version) if data_version and data_version.isdecimal() else 0


_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
