-- name: unfinished
SELECT count(*) FILTER (WHERE status = 'QUEUED')  AS queued,
       count(*) FILTER (WHERE status <> 'QUEUED') AS in_progress,
       coalesce(max(extract(epoch FROM now() AT TIME ZONE 'UTC' - create_timestamp)) FILTER (WHERE status = 'QUEUED'), 0)::float8
                                                  AS oldest_queued_seconds
FROM runs
WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
