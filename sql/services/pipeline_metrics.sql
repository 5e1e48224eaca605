-- Metrics of the pipeline, read at each scrape of Prometheus. Null: nothing was loaded yet.

-- name: backlog
SELECT (now() AT TIME ZONE 'UTC')::date - 1 - (
           SELECT max(first_day) FROM raw.delivery WHERE kind = 'increment' AND outcome <> 'failed'
       )                                                                                   AS days_behind,
       (SELECT extract(epoch FROM now() - max(staged_at)) FROM staging.staged_day)::float8 AS seconds_since_load,
       (SELECT count(*) FROM staging.quarantine WHERE state = 'open')                      AS open_lines

-- name: rows
-- Rows of the last days; a day without a load is missing.
SELECT (now() AT TIME ZONE 'UTC')::date - to_date(date_id::text, 'YYYYMMDD') AS day_age, file, rows
FROM staging.staged_day
WHERE date_id BETWEEN to_char(now() AT TIME ZONE 'UTC' - make_interval(days => %(days)s), 'YYYYMMDD')::integer
                  AND to_char(now() AT TIME ZONE 'UTC' - interval '1 day', 'YYYYMMDD')::integer

-- name: lock_waits
-- Number of loads that wait for others (sql/locks.sql), and the longest wait. A lock of one number has the
-- subclass 1, and its number in objid; a lock of a day has its class in classid.
SELECT count(*) AS sessions, coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8 AS seconds
FROM pg_locks
WHERE locktype = 'advisory' AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (objsubid = 1 AND classid = 0 AND objid IN (7205002, 7205022, 7205023)
       OR objsubid = 2 AND classid IN (7205020, 7205021))
