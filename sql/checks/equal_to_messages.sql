-- Find deliveries that differ from the service's messages, deliveries without message, and messages without delivery.
-- name: offending
SELECT coalesce(f.date_id, m.date_id) AS date_id, count(*) AS offending,
       min(format('message %%s: %%s in the service, %%s in the mart', message_id, coalesce(m.status, 'nothing'),
                  coalesce(f.status, 'nothing'))) AS example
FROM (
    SELECT message_id, to_char(created_at AT TIME ZONE %(timezone)s, 'YYYYMMDD')::integer AS date_id, mailing_id,
           client_id, status, attempts, finished_at
    FROM mailings.message
    WHERE created_at >= to_date(%(first_date_id)s::text, 'YYYYMMDD')::timestamp AT TIME ZONE %(timezone)s
      AND created_at < (to_date(%(last_date_id)s::text, 'YYYYMMDD') + 1)::timestamp AT TIME ZONE %(timezone)s
) AS m
FULL JOIN (
    SELECT * FROM mart.f_mailing_deliveries WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS f USING (message_id)
WHERE (m.date_id, m.mailing_id, m.client_id, m.status, m.attempts, m.finished_at)
      IS DISTINCT FROM (f.date_id, f.mailing_id, f.client_id, f.status, f.attempts, f.finished_at)
GROUP BY 1
ORDER BY 1
