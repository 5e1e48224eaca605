-- name: use_one_snapshot
-- Rows, statistics and checks must use one snapshot, since messages are sent concurrently.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: exclude_other_writers
-- Taken before the first row is read, so that the snapshot includes another run's commit.
LOCK TABLE mart.f_mailing_deliveries IN SHARE ROW EXCLUSIVE MODE

-- name: take_days
-- Bounds are timestamps, so that the index on created_at is used. Phone and text are not copied to the mart.
CREATE TEMP TABLE delivery ON COMMIT DROP AS
SELECT m.message_id, to_char(d.day, 'YYYYMMDD')::integer AS date_id, m.mailing_id, m.client_id, l.customer_id,
       g.tag_filter, g.operator_code_filter, m.status, m.attempts, m.reason, m.created_at, m.finished_at,
       CASE m.status WHEN 'SENT' THEN round(extract(epoch FROM m.finished_at - m.created_at), 3) END
           AS seconds_to_deliver
FROM unnest(%(days)s::date[]) AS d (day)
JOIN mailings.message AS m
  ON m.created_at >= d.day::timestamp AT TIME ZONE %(timezone)s
 AND m.created_at < (d.day + 1)::timestamp AT TIME ZONE %(timezone)s
LEFT JOIN mailings.mailing AS g USING (mailing_id)
LEFT JOIN mailings.client_customer AS l USING (client_id)

-- name: clear_gone
DELETE FROM mart.f_mailing_deliveries AS f
WHERE date_id = ANY (%(date_ids)s) AND NOT EXISTS (SELECT FROM delivery AS d WHERE d.message_id = f.message_id)

-- name: fill_days
-- Writes only differences: a day is loaded again every minute while its messages are sent. A message that another time
-- zone moves to another day keeps its id.
INSERT INTO mart.f_mailing_deliveries AS f (message_id, date_id, mailing_id, client_id, customer_id, tag_filter,
                                            operator_code_filter, status, attempts, reason, created_at, finished_at,
                                            seconds_to_deliver)
SELECT message_id, date_id, mailing_id, client_id, customer_id, tag_filter, operator_code_filter, status, attempts,
       reason, created_at, finished_at, seconds_to_deliver
FROM delivery
ON CONFLICT (message_id) DO UPDATE
SET date_id = EXCLUDED.date_id, mailing_id = EXCLUDED.mailing_id, client_id = EXCLUDED.client_id,
    customer_id = EXCLUDED.customer_id, tag_filter = EXCLUDED.tag_filter,
    operator_code_filter = EXCLUDED.operator_code_filter, status = EXCLUDED.status, attempts = EXCLUDED.attempts,
    reason = EXCLUDED.reason, created_at = EXCLUDED.created_at, finished_at = EXCLUDED.finished_at,
    seconds_to_deliver = EXCLUDED.seconds_to_deliver
WHERE f IS DISTINCT FROM EXCLUDED

-- name: summary
SELECT date_id, count(*) AS messages, count(DISTINCT mailing_id) AS mailings,
       count(*) FILTER (WHERE status = 'Pending') AS pending, count(*) FILTER (WHERE status = 'SENT') AS sent,
       count(*) FILTER (WHERE status = 'FAILED') AS failed, count(*) FILTER (WHERE status = 'TIMEOUT') AS timed_out,
       count(*) FILTER (WHERE customer_id IS NULL) AS to_unlinked_clients
FROM delivery
GROUP BY date_id

-- name: changed_days
-- Find days whose messages differ from their statistics. Compared are days with Pending messages, and all days since the
-- day before the last one in the mart (a long list may be committed after a short one of the next day). `digest` covers
-- the counts, and overdue messages, so that a check sees them although nothing changes. Recent days are read together,
-- older ones one by one: no tick reads the whole history.
WITH span AS (
    SELECT coalesce((SELECT to_date(max(date_id)::text, 'YYYYMMDD') - 1 FROM mart.f_mailing_deliveries),
                    (SELECT (min(started_at) AT TIME ZONE %(timezone)s)::date FROM mailings.mailing)) AS first_day
), old AS (
    SELECT DISTINCT to_date(date_id::text, 'YYYYMMDD') AS day FROM mart.f_mailing_deliveries
    WHERE status = 'Pending' AND date_id < (SELECT to_char(first_day, 'YYYYMMDD')::integer FROM span)
), found AS (
    SELECT (m.created_at AT TIME ZONE %(timezone)s)::date AS day, m.mailing_id, m.status, count(*) AS count
    FROM mailings.message AS m
    WHERE m.created_at >= (SELECT first_day::timestamp AT TIME ZONE %(timezone)s FROM span)
    GROUP BY 1, 2, 3
    UNION ALL
    SELECT old.day, m.mailing_id, m.status, count(*)
    FROM old
    JOIN mailings.message AS m
      ON m.created_at >= old.day::timestamp AT TIME ZONE %(timezone)s
     AND m.created_at < (old.day + 1)::timestamp AT TIME ZONE %(timezone)s
    GROUP BY 1, 2, 3
), now_there AS (
    SELECT f.day, concat_ws(':', sum(f.count), coalesce(sum(f.count) FILTER (WHERE f.status = 'Pending'), 0),
                            coalesce(sum(f.count) FILTER (WHERE f.status = 'SENT'), 0),
                            coalesce(sum(f.count) FILTER (WHERE f.status = 'FAILED'), 0),
                            coalesce(sum(f.count) FILTER (WHERE f.status = 'TIMEOUT'), 0)) AS counts,
           coalesce(sum(f.count) FILTER (
               WHERE f.status = 'Pending' AND least(g.deleted_at, g.end_time) < now() - interval '10 minutes'), 0)
               AS overdue
    FROM found AS f
    LEFT JOIN mailings.mailing AS g USING (mailing_id)
    GROUP BY f.day
), told AS (
    SELECT to_date(date_id::text, 'YYYYMMDD') AS day,
           concat_ws(':', sum(messages), sum(pending), sum(sent), sum(failed), sum(timed_out)) AS counts
    FROM mart.f_mailing_statistics
    GROUP BY date_id
)
SELECT day::text AS day, concat_ws(':', coalesce(n.counts, 'none'), coalesce(n.overdue, 0)) AS digest
FROM now_there AS n
FULL JOIN told USING (day)
WHERE (n.day IS NOT NULL OR day >= (SELECT first_day FROM span) OR day IN (SELECT day FROM old))
  AND (n.counts IS DISTINCT FROM told.counts OR n.overdue > 0)
ORDER BY day
