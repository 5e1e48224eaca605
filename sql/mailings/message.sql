-- name: is_there
SELECT to_regclass('mailings.message') IS NOT NULL AS is_there

-- name: start
-- Start the next due mailing; later changes are refused because it is running. One that was paused for its whole period is
-- started too, so that its messages can time out.
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
-- Runs in the transaction of `start`. The messages of a mailing that is started after its end are timed out at once.
INSERT INTO mailings.message (mailing_id, client_id, status, next_attempt_at, finished_at)
SELECT g.mailing_id, r.client_id, CASE WHEN g.end_time <= now() THEN 'TIMEOUT' ELSE 'Pending' END, g.start_time,
       CASE WHEN g.end_time <= now() THEN now() END
FROM mailings.mailing AS g, mailings.recipients(%(operator_code_filter)s, %(tag_filter)s) AS r
WHERE g.mailing_id = %(mailing_id)s

-- name: time_out
-- Time out messages after the mailing's end. A claimed message may be in transit: it is left to its worker until the
-- longest send that began before the end must have finished.
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
-- Fail messages of deleted mailings whose worker died.
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

-- name: enqueue_dispatch
-- Mailings with due messages and no waiting task; those that have waited longest come first.
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
-- Replace the count changes of a mailing by their sums, atomically for readers.
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
-- A task has started, so the planner may enqueue the next one. Returns the contents of a running mailing.
WITH begun AS (
    UPDATE mailings.mailing SET asked_at = NULL WHERE mailing_id = %(mailing_id)s AND asked_at IS NOT NULL
)
SELECT mailing_id, text, send_from, send_until FROM mailings.mailing
WHERE mailing_id = %(mailing_id)s AND state = 'running' AND paused_at IS NULL AND deleted_at IS NULL
  AND end_time > now()

-- name: claim
-- Claim the next due messages for the duration of the lease, after which those of a dead worker are due again.
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
-- Find which messages may be sent now: still claimed by this worker, and the mailing neither ended, paused nor deleted.
-- Runs before each send, and while messages wait for a send slot. A lease that the send could outlast is renewed, unless
-- another worker has claimed the message. phone is NULL if the client was deleted. opted_out: the phone was suppressed
-- since the mailing started, whose recipients had no suppressed phone.
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
       extract(epoch FROM g.end_time - clock_timestamp())::float8 AS seconds_left,
       EXISTS (SELECT FROM mailings.suppression AS s WHERE s.phone = c.phone) AS opted_out
FROM asked
JOIN mailings.message AS m USING (message_id, claim)
JOIN mailings.mailing AS g USING (mailing_id)
LEFT JOIN mailings.client AS c USING (client_id)
WHERE m.status = 'Pending'
  AND (m.next_attempt_at >= clock_timestamp() + %(needed)s OR m.message_id IN (SELECT message_id FROM renewed))
  AND g.state = 'running' AND g.paused_at IS NULL AND g.deleted_at IS NULL
  AND g.end_time > clock_timestamp() + %(margin)s

-- name: store_results
-- Record outcomes of messages that this worker still claims. A message to be retried ends if its mailing has.
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

-- name: reserve_slots
-- Reserve send slots: `span` seconds from the first free one, only if that is due within `ahead`. A stored time beyond
-- `farthest` is left from a slower rate, or a clock that was set back, and is ignored. wait: seconds until the first
-- reserved slot, or the first free one if none was reserved.
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
-- Count messages that are due but not claimed, and the delay of the oldest.
SELECT count(*) AS depth, coalesce(extract(epoch FROM now() - min(m.next_attempt_at)), 0)::float8 AS oldest_seconds
FROM mailings.mailing AS g
JOIN mailings.message AS m USING (mailing_id)
WHERE g.state = 'running' AND g.paused_at IS NULL AND g.deleted_at IS NULL AND g.end_time > now()
  AND m.status = 'Pending' AND m.next_attempt_at <= now()
