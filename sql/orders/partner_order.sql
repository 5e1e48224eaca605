-- name: claim
-- The intents of orders, before the partner hears of them. A row comes back to whoever may go on: the first that asks,
-- or the same request again where the last try did not settle it and nobody is at it. In the order of their ids: two
-- processes with orders in common wait for each other, and never in a circle.
INSERT INTO orders.partner_order AS o (order_id, body_hash, order_date, order_type, their_pharmacy_id, phone, lines, state,
                                       claim, claimed_until, next_check_at)
SELECT order_id, body_hash, order_date, order_type, their_pharmacy_id, phone, lines, 'creating',
       %(claim)s, now() + %(lease)s, now()
FROM jsonb_to_recordset(%(orders)s) AS asked (order_id bigint, body_hash text, order_date timestamptz, order_type smallint,
     their_pharmacy_id text, phone text, lines jsonb)
ORDER BY order_id
ON CONFLICT (order_id) DO UPDATE
SET state = 'creating', uncertain = o.uncertain OR o.state = 'creating', claim = EXCLUDED.claim,
    claimed_until = EXCLUDED.claimed_until, next_check_at = now(), updated_at = now()
WHERE o.body_hash = EXCLUDED.body_hash AND o.state IN ('creating', 'failed', 'unknown')
  AND (o.claimed_until IS NULL OR o.claimed_until < now())
RETURNING order_id, uncertain

-- name: find
SELECT order_id, body_hash, state, their_order_id, lines, refusal, status_id, cancelled_at, checks,
       coalesce(claimed_until >= now(), false) AS claimed
FROM orders.partner_order
WHERE order_id = %(order_id)s

-- name: hold
-- Long calls go on; a claim that is not renewed is one of a process that died.
WITH held AS (
    SELECT order_id FROM orders.partner_order
    WHERE order_id = ANY (%(order_ids)s) AND claim = %(claim)s
    ORDER BY order_id
    FOR UPDATE
)
UPDATE orders.partner_order AS o SET claimed_until = now() + %(lease)s FROM held WHERE o.order_id = held.order_id

-- name: accept
-- The partner has the orders: that and their events are one commit.
WITH claimed AS (
    SELECT o.order_id, told.their_order_id, told.message_id
    FROM jsonb_to_recordset(%(orders)s) AS told (order_id bigint, their_order_id text, message_id text)
    JOIN orders.partner_order AS o USING (order_id)
    WHERE o.claim = %(claim)s
    ORDER BY order_id
    FOR UPDATE OF o
), accepted AS (
    UPDATE orders.partner_order AS o
    SET state = 'accepted', uncertain = false, their_order_id = claimed.their_order_id, refusal = NULL, status_id = 0,
        claim = NULL, claimed_until = NULL, checks = 0, next_check_at = NULL, updated_at = now()
    FROM claimed
    WHERE o.order_id = claimed.order_id
    RETURNING o.order_id, o.order_date, claimed.message_id
), event AS (
    INSERT INTO orders.outbox (message_id, order_id, kind, project_id, kodpost, dated_at)
    SELECT message_id, order_id, 'accepted', %(project_id)s, %(kodpost)s, order_date FROM accepted
    ON CONFLICT (message_id) DO NOTHING
)
SELECT order_id FROM accepted

-- name: refuse
-- state is rejected, failed or unknown; only what is unknown is looked at again.
UPDATE orders.partner_order
SET state = %(state)s, uncertain = %(state)s = 'unknown', refusal = %(refusal)s, claim = NULL, claimed_until = NULL,
    checks = 0, next_check_at = CASE %(state)s WHEN 'unknown' THEN now() + %(pause)s END, updated_at = now()
WHERE order_id = %(order_id)s AND claim = %(claim)s
RETURNING order_id

-- name: see_status
-- A status that the partner told. Done and cancelled make their event once, in the same commit.
WITH former AS (
    SELECT order_id, status_id FROM orders.partner_order
    WHERE order_id = %(order_id)s AND their_order_id = %(their_order_id)s AND state = 'accepted'
      AND status_id IS DISTINCT FROM %(status_id)s
    FOR UPDATE
), seen AS (
    UPDATE orders.partner_order AS o
    SET status_id = %(status_id)s, updated_at = now(),
        cancelled_at = CASE %(kind)s WHEN 'cancelled' THEN coalesce(o.cancelled_at, now()) ELSE o.cancelled_at END,
        cancel_asked_at = CASE %(kind)s WHEN 'cancelled' THEN NULL ELSE o.cancel_asked_at END,
        next_check_at = CASE %(kind)s WHEN 'cancelled' THEN NULL ELSE o.next_check_at END
    FROM former WHERE o.order_id = former.order_id
    RETURNING o.order_id, o.cancelled_at
), event AS (
    INSERT INTO orders.outbox (message_id, order_id, kind, project_id, kodpost, dated_at)
    SELECT %(message_id)s, order_id, %(kind)s, %(project_id)s, %(kodpost)s,
           CASE %(kind)s WHEN 'cancelled' THEN cancelled_at ELSE now() END
    FROM seen
    WHERE %(kind)s::text IS NOT NULL
    ON CONFLICT (message_id) DO NOTHING
)
SELECT order_id FROM seen

-- name: ask_cancel
-- The intent of a cancel, before the partner hears of it.
UPDATE orders.partner_order
SET cancel_asked_at = now(), checks = 0, next_check_at = now() + %(pause)s, updated_at = now()
WHERE order_id = %(order_id)s AND their_order_id = %(their_order_id)s AND cancelled_at IS NULL

-- name: cancel
WITH cancelled AS (
    UPDATE orders.partner_order
    SET cancelled_at = now(), cancel_asked_at = NULL, status_id = 3, next_check_at = NULL, updated_at = now()
    WHERE order_id = %(order_id)s AND their_order_id = %(their_order_id)s AND cancelled_at IS NULL
    RETURNING order_id, cancelled_at
), event AS (
    INSERT INTO orders.outbox (message_id, order_id, kind, project_id, kodpost, dated_at)
    SELECT %(message_id)s, order_id, 'cancelled', %(project_id)s, %(kodpost)s, cancelled_at FROM cancelled
    ON CONFLICT (message_id) DO NOTHING
)
SELECT order_id FROM cancelled

-- name: keep_order
-- The partner did not cancel: nothing is left to be settled.
UPDATE orders.partner_order SET cancel_asked_at = NULL, next_check_at = NULL, updated_at = now()
WHERE order_id = %(order_id)s AND cancelled_at IS NULL

-- name: due
-- What the reconciler looks at next: creates and cancels of unknown outcome, or of a process that died over them.
UPDATE orders.partner_order AS o
SET uncertain = o.uncertain OR o.state = 'creating', state = CASE o.state WHEN 'creating' THEN 'unknown' ELSE o.state END,
    claim = %(claim)s, claimed_until = now() + %(lease)s, checks = o.checks + 1, updated_at = now(),
    next_check_at = now() + least(%(pause)s * power(2, least(o.checks, 12)), interval '10 minutes')
FROM (
    SELECT order_id FROM orders.partner_order
    WHERE next_check_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY next_check_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS d
WHERE o.order_id = d.order_id
RETURNING o.order_id, o.state, o.their_order_id, o.cancel_asked_at IS NOT NULL AS cancelling, o.checks, o.created_at

-- name: release
UPDATE orders.partner_order SET claim = NULL, claimed_until = NULL
WHERE order_id = %(order_id)s AND claim = %(claim)s

-- name: give_up
-- Long after the create the partner still knows nothing of the order: it is not there.
UPDATE orders.partner_order
SET state = 'failed', uncertain = false, claim = NULL, claimed_until = NULL, next_check_at = NULL, updated_at = now()
WHERE order_id = %(order_id)s AND claim = %(claim)s AND state = 'unknown'

-- name: unsettled
SELECT count(*) FILTER (WHERE state = 'unknown') AS orders, count(*) FILTER (WHERE state = 'accepted') AS cancels
FROM orders.partner_order
WHERE next_check_at IS NOT NULL

-- name: ping
SELECT 1
