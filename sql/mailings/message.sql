-- name: is_there
SELECT to_regclass('mailings.message') IS NOT NULL AS is_there

-- name: start
-- The next mailing that is due, and nobody else's from here on: a change of it that comes later finds it running. One
-- that was paused over its whole time begins too, so that its messages can time out.
UPDATE mailings.mailing AS g
SET state = 'running', started_at = now(), updated_at = now()
FROM (
    SELECT mailing_id FROM mailings.mailing
    WHERE state = 'scheduled' AND start_time <= now() AND deleted_at IS NULL
      AND (paused_at IS NULL OR end_time <= now())
    ORDER BY start_time, mailing_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
) AS due
WHERE g.mailing_id = due.mailing_id
RETURNING g.mailing_id, g.operator_code_filter, g.tag_filter

-- name: write_recipients
-- In the same transaction. A mailing that comes after its end sends nothing; its rows say so.
INSERT INTO mailings.message (mailing_id, client_id, status, next_attempt_at, finished_at)
SELECT g.mailing_id, r.client_id, CASE WHEN g.end_time <= now() THEN 'TIMEOUT' ELSE 'Pending' END, g.start_time,
       CASE WHEN g.end_time <= now() THEN now() END
FROM mailings.mailing AS g, mailings.recipients(%(operator_code_filter)s, %(tag_filter)s) AS r
WHERE g.mailing_id = %(mailing_id)s

-- name: time_out
-- What is left after the end. A message that a worker holds may be on its way: it is the worker's until the longest
-- send that was begun before the end is over.
WITH over AS (
    SELECT mailing_id, end_time FROM mailings.mailing
    WHERE state = 'running' AND end_time <= now() AND deleted_at IS NULL
    ORDER BY mailing_id
    FOR UPDATE SKIP LOCKED
)
UPDATE mailings.message AS m
SET status = 'TIMEOUT', claim = NULL, finished_at = now()
FROM over
WHERE m.mailing_id = over.mailing_id AND m.status = 'Pending'
  AND (m.claim IS NULL OR m.next_attempt_at <= now() OR over.end_time + %(grace)s <= now())

-- name: fail_deleted
-- What a deletion left to workers that then died.
WITH gone AS (
    SELECT mailing_id FROM mailings.mailing
    WHERE state = 'running' AND deleted_at IS NOT NULL
    ORDER BY mailing_id
    FOR UPDATE SKIP LOCKED
)
UPDATE mailings.message AS m
SET status = 'FAILED', reason = 'mailing deleted', claim = NULL, finished_at = now()
FROM gone
WHERE m.mailing_id = gone.mailing_id AND m.status = 'Pending' AND (m.claim IS NULL OR m.next_attempt_at <= now())

-- name: finish
UPDATE mailings.mailing
SET state = 'finished', finished_at = now(), updated_at = now()
WHERE mailing_id IN (
    SELECT g.mailing_id FROM mailings.mailing AS g
    WHERE g.state = 'running'
      AND NOT EXISTS (SELECT FROM mailings.message AS m WHERE m.mailing_id = g.mailing_id AND m.status = 'Pending')
    FOR UPDATE SKIP LOCKED)
RETURNING mailing_id

-- name: ask
-- Mailings that have messages due, and no task that waits for a worker; those that were left longest first.
UPDATE mailings.mailing
SET asked_at = now()
WHERE mailing_id IN (
    SELECT g.mailing_id FROM mailings.mailing AS g
    WHERE g.state = 'running' AND g.paused_at IS NULL AND g.deleted_at IS NULL AND g.end_time > now()
      AND (g.asked_at IS NULL OR g.asked_at < now() - %(patience)s)
      AND EXISTS (SELECT FROM mailings.message AS m
                  WHERE m.mailing_id = g.mailing_id AND m.status = 'Pending' AND m.next_attempt_at <= now())
    ORDER BY g.asked_at NULLS FIRST, g.start_time
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED)
RETURNING mailing_id

-- name: fold
-- The sums of a mailing's changes take the place of the changes. Readers see all of it or nothing.
WITH many AS (
    SELECT mailing_id FROM mailings.message_count GROUP BY mailing_id HAVING count(*) > 8
), gone AS (
    DELETE FROM mailings.message_count
    WHERE mailing_id IN (SELECT mailing_id FROM many) AND pg_try_advisory_xact_lock(7205006)
    RETURNING mailing_id, status, change
)
INSERT INTO mailings.message_count (mailing_id, status, change)
SELECT mailing_id, status, sum(change) FROM gone GROUP BY mailing_id, status HAVING sum(change) <> 0

-- name: begin
-- A task has come; the planner may ask for the next. What is sent of a mailing that runs.
WITH begun AS (
    UPDATE mailings.mailing SET asked_at = NULL WHERE mailing_id = %(mailing_id)s AND asked_at IS NOT NULL
)
SELECT mailing_id, text, send_from, send_until FROM mailings.mailing
WHERE mailing_id = %(mailing_id)s AND state = 'running' AND paused_at IS NULL AND deleted_at IS NULL
  AND end_time > now()

-- name: claim
-- The next due messages, for as long as the lease: a worker that dies leaves them to the others after it.
WITH due AS (
    SELECT m.message_id FROM mailings.message AS m
    WHERE m.mailing_id = %(mailing_id)s AND m.status = 'Pending' AND m.next_attempt_at <= now()
      AND EXISTS (SELECT FROM mailings.mailing AS g
                  WHERE g.mailing_id = %(mailing_id)s AND g.state = 'running' AND g.paused_at IS NULL
                    AND g.deleted_at IS NULL AND g.end_time > now())
    ORDER BY m.next_attempt_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE mailings.message AS m
    SET claim = %(claim)s, next_attempt_at = now() + %(lease)s
    FROM due WHERE m.message_id = due.message_id
    RETURNING m.message_id, m.client_id, m.attempts
)
SELECT claimed.message_id, claimed.client_id, claimed.attempts, c.timezone, clock_timestamp() AS now
FROM claimed LEFT JOIN mailings.client AS c USING (client_id)

-- name: permit
-- Which of these may be sent now: still ours, and the mailing neither over nor paused nor deleted. Asked before each
-- send, and while messages wait for their turn. Nothing is sent under a lease that the send could outlast: a shorter
-- one is renewed, unless another worker has taken the message. No phone: the client is gone.
WITH asked AS (
    SELECT message_id, claim FROM unnest(%(message_ids)s::bigint[], %(claims)s::text[]) AS asked (message_id, claim)
), renewed AS (
    UPDATE mailings.message AS m
    SET next_attempt_at = clock_timestamp() + %(lease)s
    FROM (SELECT m.message_id, m.claim FROM asked JOIN mailings.message AS m USING (message_id, claim)
          WHERE m.status = 'Pending' AND m.next_attempt_at < clock_timestamp() + %(needed)s
          ORDER BY m.message_id FOR UPDATE OF m) AS short
    WHERE (m.message_id, m.claim) = (short.message_id, short.claim)
    RETURNING m.message_id
)
SELECT m.message_id, c.phone, c.timezone, clock_timestamp() AS now,
       extract(epoch FROM g.end_time - clock_timestamp())::float8 AS seconds_left
FROM asked
JOIN mailings.message AS m USING (message_id, claim)
JOIN mailings.mailing AS g USING (mailing_id)
LEFT JOIN mailings.client AS c USING (client_id)
WHERE m.status = 'Pending'
  AND (m.next_attempt_at >= clock_timestamp() + %(needed)s OR m.message_id IN (SELECT message_id FROM renewed))
  AND g.state = 'running' AND g.paused_at IS NULL AND g.deleted_at IS NULL
  AND g.end_time > clock_timestamp() + %(margin)s

-- name: settle
-- What became of messages that are still ours. What would go on waiting ends with its mailing.
UPDATE mailings.message AS m
SET status = CASE WHEN r.status <> 'Pending' THEN r.status WHEN g.deleted_at IS NOT NULL THEN 'FAILED'
                  WHEN g.end_time <= now() THEN 'TIMEOUT' ELSE 'Pending' END,
    reason = CASE WHEN r.status = 'SENT' THEN NULL
                  WHEN r.status = 'Pending' AND g.deleted_at IS NOT NULL THEN 'mailing deleted'
                  ELSE coalesce(r.reason, m.reason) END,
    finished_at = CASE WHEN r.status <> 'Pending' OR g.deleted_at IS NOT NULL OR g.end_time <= now() THEN now() END,
    attempts = m.attempts + r.attempts,
    next_attempt_at = coalesce(r.next_attempt_at, now()),
    claim = NULL
FROM unnest(%(message_ids)s::bigint[], %(claims)s::text[], %(statuses)s::text[], %(attempts)s::smallint[],
            %(reasons)s::text[], %(next_attempts)s::timestamptz[])
     AS r (message_id, claim, status, attempts, reason, next_attempt_at),
     mailings.mailing AS g
WHERE m.message_id = r.message_id AND m.claim = r.claim AND m.status = 'Pending' AND g.mailing_id = m.mailing_id
RETURNING m.message_id

-- name: take_turns
-- Turns are moments, `span` seconds' worth from the first free one on, taken only if that is due within `ahead`. One that
-- is later than `farthest` was left by a slower rate, or by a clock that was set back, and counts for nothing. `wait`:
-- seconds until the first of the turns, or where none was taken until the first free one.
WITH taken AS (
    INSERT INTO mailings.send_rate AS r (next_at) VALUES (clock_timestamp() + %(span)s)
    ON CONFLICT (one) DO UPDATE
    SET next_at = greatest(clock_timestamp(), CASE WHEN r.next_at <= clock_timestamp() + %(ahead)s THEN r.next_at END)
                  + %(span)s
    WHERE r.next_at <= clock_timestamp() + %(ahead)s OR r.next_at > clock_timestamp() + %(farthest)s
    RETURNING next_at - %(span)s AS first_at
)
SELECT true AS taken, extract(epoch FROM first_at - clock_timestamp())::float8 AS wait FROM taken
UNION ALL
SELECT false, extract(epoch FROM next_at - clock_timestamp())::float8 FROM mailings.send_rate
WHERE NOT EXISTS (SELECT FROM taken)

-- name: by_status
SELECT status, sum(change)::bigint AS count FROM mailings.message_count GROUP BY status

-- name: depth
-- Messages that could be sent now, were there anybody to do it, and how late the oldest is.
SELECT count(*) AS depth, coalesce(extract(epoch FROM now() - min(m.next_attempt_at)), 0)::float8 AS oldest_seconds
FROM mailings.mailing AS g
JOIN mailings.message AS m USING (mailing_id)
WHERE g.state = 'running' AND g.paused_at IS NULL AND g.deleted_at IS NULL AND g.end_time > now()
  AND m.status = 'Pending' AND m.next_attempt_at <= now()
