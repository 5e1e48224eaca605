-- Days whose last asking failed, or whose newest order file can't be used.
-- name: offending
SELECT to_char(last.first_day, 'YYYYMMDD')::integer AS date_id, 1 AS offending,
       coalesce(CASE WHEN last.outcome = 'failed' THEN last.reason END, r.reason, 'its order file was not read yet')
           AS example
FROM (
    SELECT DISTINCT ON (first_day) first_day, delivery_id, outcome, reason
    FROM raw.delivery
    WHERE kind = 'increment'
      AND first_day BETWEEN to_date(%(first_date_id)s::text, 'YYYYMMDD') AND to_date(%(last_date_id)s::text, 'YYYYMMDD')
    ORDER BY first_day, delivery_id DESC
) AS last
LEFT JOIN (raw.file_delivery AS e JOIN raw.fetch AS f ON f.fetch_id = e.fetch_id AND f.file = 'user_orders_log')
       ON e.delivery_id = last.delivery_id
LEFT JOIN staging.fetch_reading AS r ON r.fetch_id = f.fetch_id
WHERE last.outcome = 'failed' OR (f.fetch_id IS NOT NULL AND (r.verdict = 'usable') IS NOT TRUE)
ORDER BY date_id
