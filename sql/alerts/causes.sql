-- Causes of alerts that are in the warehouse now (docs/guides/alerts.md).

-- name: limit_time
-- The daemon aborts the tick of a sensor after 60 seconds.
SELECT set_config('statement_timeout', '10s', true)

-- name: missing_days
-- Find the days of a period without a staged order file, whether of an increment or of a report.
SELECT day::date AS day
FROM generate_series(%(first_day)s::timestamp, %(last_day)s::timestamp, interval '1 day') AS days (day)
WHERE NOT EXISTS (SELECT FROM staging.staged_day
                  WHERE file = 'user_orders_log' AND date_id = to_char(day, 'YYYYMMDD')::integer)
ORDER BY day

-- name: quarantine
-- Count open rejected rows: those of the last 24 hours, and all. Lines and reasons are not read, because both may contain
-- names.
SELECT count(*) FILTER (WHERE found_at > now() - interval '24 hours') AS new, count(*) AS waiting
FROM staging.quarantine
WHERE state = 'open'

-- name: failing_mailings
-- Find mailings that run, or ended within a day, with more than a share of the finished messages failed. A running
-- mailing needs a minimum of finished messages. known: mailings with an open alert; is_over: it ended longer ago, or was
-- deleted.
SELECT m.mailing_id, sum(c.change) FILTER (WHERE c.status IN ('FAILED', 'TIMEOUT'))::bigint AS failed,
       sum(c.change) FILTER (WHERE c.status <> 'Pending')::bigint AS finished,
       m.deleted_at IS NOT NULL OR (m.finished_at <= now() - interval '24 hours') IS TRUE AS is_over
FROM mailings.mailing AS m
JOIN mailings.message_count AS c USING (mailing_id)
WHERE (m.deleted_at IS NULL AND (m.state = 'running' OR m.finished_at > now() - interval '24 hours'))
   OR m.mailing_id = ANY (%(known)s::bigint[])
GROUP BY m.mailing_id
HAVING sum(c.change) FILTER (WHERE c.status IN ('FAILED', 'TIMEOUT'))
           > %(share)s::float8 * sum(c.change) FILTER (WHERE c.status <> 'Pending')
   AND (m.state = 'finished' OR sum(c.change) FILTER (WHERE c.status <> 'Pending') >= %(least_finished)s)
ORDER BY m.mailing_id
