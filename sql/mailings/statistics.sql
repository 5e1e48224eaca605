-- Counts are read from mailings.message_count, a few rows per mailing, regardless of the number of messages.

-- name: overall
SELECT c.status, sum(c.change)::bigint AS count
FROM mailings.message_count AS c
JOIN mailings.mailing AS m USING (mailing_id)
WHERE m.deleted_at IS NULL
GROUP BY c.status
HAVING sum(c.change) > 0
ORDER BY c.status COLLATE "C"

-- name: mailings
SELECT count(*) AS count FROM mailings.mailing WHERE deleted_at IS NULL

-- name: of_mailing
SELECT status, sum(change)::bigint AS count
FROM mailings.message_count
WHERE mailing_id = %(mailing_id)s
GROUP BY status
HAVING sum(change) > 0
ORDER BY status COLLATE "C"

-- name: daily
-- By the day on which the mailings started and their messages were written.
SELECT (m.started_at AT TIME ZONE %(timezone)s)::date AS day, c.status, sum(c.change)::bigint AS count
FROM mailings.mailing AS m
JOIN mailings.message_count AS c USING (mailing_id)
WHERE m.started_at >= %(first)s::date::timestamp AT TIME ZONE %(timezone)s
  AND m.started_at < (%(last)s::date + 1)::timestamp AT TIME ZONE %(timezone)s AND m.deleted_at IS NULL
GROUP BY day, c.status
HAVING sum(c.change) > 0
ORDER BY day, c.status COLLATE "C"
