-- Find days whose events differ between the service's outbox and staging. Events of the last minute may still be in
-- transit and are skipped.
-- name: offending
SELECT to_char(coalesce(o.dated_at, s.dated_at) AT TIME ZONE %(timezone)s, 'YYYYMMDD')::integer AS date_id,
       count(*) AS offending,
       min(CASE WHEN s.message_id IS NULL THEN format('%%s is not staged', o.message_id)
                ELSE format('%%s is not in the outbox', s.message_id) END) AS example
FROM (
    SELECT message_id, dated_at, created_at FROM orders.outbox
    WHERE dated_at >= to_date(%(first_date_id)s::text, 'YYYYMMDD')::timestamp AT TIME ZONE %(timezone)s
      AND dated_at < (to_date(%(last_date_id)s::text, 'YYYYMMDD') + 1)::timestamp AT TIME ZONE %(timezone)s
) AS o
FULL JOIN (
    SELECT message_id, dated_at FROM staging.partner_order_event
    WHERE dated_at >= to_date(%(first_date_id)s::text, 'YYYYMMDD')::timestamp AT TIME ZONE %(timezone)s
      AND dated_at < (to_date(%(last_date_id)s::text, 'YYYYMMDD') + 1)::timestamp AT TIME ZONE %(timezone)s
) AS s USING (message_id)
WHERE s.message_id IS NULL AND o.created_at < now() - interval '1 minute' OR o.message_id IS NULL
GROUP BY 1
ORDER BY 1
