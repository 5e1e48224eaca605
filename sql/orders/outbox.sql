-- name: lead
-- Elect one relay: two would deliver the events of an order out of order. The others wait for the lock, which ends with
-- the session and so with the process.
SELECT pg_advisory_lock(7205003)

-- name: waiting
-- The first waiting event of each order; the next one follows once it is confirmed.
SELECT e.event_no, e.message_id, e.kind, e.project_id, e.kodpost, e.order_id, e.dated_at, o.their_order_id,
       o.their_pharmacy_id, o.phone, o.lines
FROM orders.outbox AS e
JOIN orders.partner_order AS o USING (order_id)
WHERE e.published_at IS NULL
  AND NOT EXISTS (SELECT FROM orders.outbox AS earlier
                  WHERE earlier.order_id = e.order_id AND earlier.published_at IS NULL AND earlier.event_no < e.event_no)
ORDER BY e.event_no
LIMIT %(limit)s

-- name: mark
UPDATE orders.outbox SET published_at = now() WHERE event_no = ANY (%(event_nos)s) AND published_at IS NULL

-- name: depth
SELECT count(*) AS depth, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest_seconds
FROM orders.outbox
WHERE published_at IS NULL
