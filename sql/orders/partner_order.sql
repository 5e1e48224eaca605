-- The transitions come from sales_assets/services/partner_orders/domain/states.py: `moves` maps the state that a row is in
-- to the one that it enters, and a state that it lacks stays. They are looked up under the row's lock.

-- name: begin_create
-- Store the intents of orders and claim them, before the partner is called. A row is returned if the process may call:
-- it is the first to request the order, or repeats the request while no call is in progress. A claim of the process itself
-- is left from a task that ended without storing an outcome: a process runs one task per order. Sorted by id, so that two
-- processes with orders in common can't deadlock.
INSERT INTO orders.partner_order AS o (order_id, body_hash, order_date, order_type, their_pharmacy_id, phone, lines, state,
                                       claim, claimed_until, next_check_at, check_until)
SELECT order_id, body_hash, order_date, order_type, their_pharmacy_id, phone, lines, %(initial)s,
       %(claim)s, now() + %(lease)s, now(), now() + %(watch)s
FROM jsonb_to_recordset(%(orders)s) AS asked (order_id bigint, body_hash text, order_date timestamptz, order_type smallint,
     their_pharmacy_id text, phone text, lines jsonb)
ORDER BY order_id
ON CONFLICT (order_id) DO UPDATE
SET state = %(moves)s::jsonb ->> o.state, refusal = NULL, claim = EXCLUDED.claim, claimed_until = EXCLUDED.claimed_until,
    checks = 0, next_check_at = now(), check_until = EXCLUDED.check_until, updated_at = now()
WHERE o.body_hash = EXCLUDED.body_hash AND %(moves)s::jsonb ->> o.state IS NOT NULL
  AND (o.claimed_until IS NULL OR o.claimed_until < now() OR o.claim = EXCLUDED.claim)
RETURNING order_id, state

-- name: begin_cancel
-- Store the intent of a cancellation and claim the order, by the same rules.
UPDATE orders.partner_order AS o
SET state = %(moves)s::jsonb ->> o.state, cancel_answer = NULL, claim = %(claim)s, claimed_until = now() + %(lease)s,
    checks = 0, next_check_at = now(), check_until = now() + %(watch)s, updated_at = now()
WHERE order_id = %(order_id)s AND their_order_id = %(their_order_id)s AND %(moves)s::jsonb ->> o.state IS NOT NULL
  AND (o.claimed_until IS NULL OR o.claimed_until < now() OR o.claim = %(claim)s)
RETURNING order_id, state

-- name: find
SELECT order_id, body_hash, state, their_order_id, lines, refusal, cancel_answer,
       coalesce(claimed_until >= now(), false) AS claimed
FROM orders.partner_order
WHERE order_id = %(order_id)s

-- name: hold
-- Renew the claims of calls in progress; a claim that is not renewed belongs to a dead process.
WITH held AS (
    SELECT order_id FROM orders.partner_order
    WHERE order_id = ANY (%(order_ids)s) AND claim = %(claim)s
    ORDER BY order_id
    FOR UPDATE
)
UPDATE orders.partner_order AS o SET claimed_until = now() + %(lease)s FROM held WHERE o.order_id = held.order_id

-- name: add_evidence
-- Apply evidence to orders: new states and their events in one commit. Returns the orders that the evidence concerns.
-- guard: 'claim' is valid only from the process that holds the claim, 'watch' only after the watch period and while no
-- call is in progress. watch: the watch period of each entered state. The partner's messages about an order whose phone was
-- erased are not stored, because they may quote the person.
WITH added AS (
    SELECT o.order_id, o.state AS former_state, o.status_id AS former_status_id, e.moves ->> o.state AS state,
           e.guard = 'claim' OR e.moves ->> o.state <> o.state AS released,
           e.their_order_id, e.status_id, e.message_ids,
           e.refusal || CASE WHEN said.is_erased AND e.refusal ->> 'message' <> ''
                             THEN '{"message": "erased"}' ELSE '{}' END::jsonb AS refusal,
           e.cancel_answer || CASE WHEN said.is_erased AND e.cancel_answer ->> 'message' <> ''
                                   THEN '{"message": "erased"}' ELSE '{}' END::jsonb AS cancel_answer
    FROM jsonb_to_recordset(%(evidence)s) AS e (order_id bigint, moves jsonb, guard text, their_order_id text,
         status_id integer, refusal jsonb, cancel_answer jsonb, message_ids jsonb)
    JOIN orders.partner_order AS o USING (order_id)
    CROSS JOIN LATERAL (SELECT o.phone LIKE 'erased:%%' AS is_erased) AS said
    WHERE e.moves ->> o.state IS NOT NULL
      AND (o.their_order_id = e.their_order_id) IS NOT FALSE
      AND CASE e.guard
              WHEN 'claim' THEN o.claim = %(claim)s
              WHEN 'watch' THEN o.check_until < now() AND (o.claimed_until IS NULL OR o.claimed_until < now())
              ELSE e.moves ->> o.state <> o.state OR e.status_id IS DISTINCT FROM o.status_id
          END
    ORDER BY order_id
    FOR UPDATE OF o
), moved AS (
    UPDATE orders.partner_order AS o
    SET state = added.state,
        their_order_id = coalesce(o.their_order_id, added.their_order_id),
        status_id = coalesce(added.status_id, o.status_id),
        refusal = CASE WHEN added.state = ANY (%(at_partner)s) THEN NULL ELSE coalesce(added.refusal, o.refusal) END,
        cancel_answer = coalesce(added.cancel_answer, o.cancel_answer),
        cancelled_at = CASE WHEN added.state = 'cancelled' THEN now() END,
        claim = CASE WHEN NOT added.released THEN o.claim END,
        claimed_until = CASE WHEN NOT added.released THEN o.claimed_until END,
        checks = CASE WHEN added.released THEN 0 ELSE o.checks END,
        next_check_at = CASE WHEN NOT added.released THEN o.next_check_at
                             WHEN %(watch)s::jsonb ? added.state THEN now() + %(pause)s END,
        check_until = CASE WHEN NOT added.released THEN o.check_until
                           ELSE now() + (%(watch)s::jsonb ->> added.state)::float8 * interval '1 second' END,
        updated_at = now()
    FROM added
    WHERE o.order_id = added.order_id
    RETURNING o.order_id, o.state, o.order_date, o.cancelled_at, added.message_ids,
              o.status_id IS DISTINCT FROM added.former_status_id AS status_changed
), event AS (
    INSERT INTO orders.outbox (message_id, order_id, kind, project_id, kodpost, dated_at)
    SELECT message_ids ->> state, order_id, state, %(project_id)s, %(kodpost)s,
           CASE state WHEN 'accepted' THEN order_date ELSE now() END
    FROM moved
    WHERE message_ids ? state
    ON CONFLICT (message_id) DO NOTHING
)
SELECT order_id, state, status_changed FROM moved

-- name: due
-- Orders in the given states that the reconciler looks up next. Those whose process died during its call move on. Each is
-- due again after a pause that doubles; with `ends`, only within its watch period.
UPDATE orders.partner_order AS o
SET state = coalesce(%(moves)s::jsonb ->> o.state, o.state), claim = NULL, claimed_until = NULL, checks = o.checks + 1,
    next_check_at = CASE WHEN NOT %(ends)s OR o.check_until > now()
                         THEN now() + least(%(pause)s * power(2, least(o.checks, 20)), %(longest_pause)s) END
FROM (
    SELECT order_id FROM orders.partner_order
    WHERE state = ANY (%(states)s) AND next_check_at <= now() AND (claimed_until IS NULL OR claimed_until < now())
    ORDER BY next_check_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS d
WHERE o.order_id = d.order_id
RETURNING o.order_id, o.state, o.their_order_id, o.checks, coalesce(o.check_until < now(), true) AS watched_long

-- name: unresolved
SELECT count(*) FILTER (WHERE state = 'unknown') AS orders,
       count(*) FILTER (WHERE state = 'cancel_unknown') AS cancels
FROM orders.partner_order
WHERE state IN ('unknown', 'cancel_unknown') AND next_check_at IS NOT NULL
