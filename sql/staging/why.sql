-- name: deliveries
-- Responses of the report API for the day, latest first, with the number and fetch of their order file.
SELECT d.delivery_id, d.asked_at, d.outcome, d.reason, d.increment_id, e.number, e.fetch_id
FROM raw.delivery AS d
LEFT JOIN (raw.file_delivery AS e JOIN raw.fetch AS f ON f.fetch_id = e.fetch_id AND f.file = 'user_orders_log')
       ON e.delivery_id = d.delivery_id
WHERE d.kind = 'increment' AND d.first_day = %(day)s
ORDER BY d.delivery_id DESC
LIMIT 10

-- name: times_delivered
-- Number of deliveries of each fetch, and the time of the last one.
SELECT fetch_id, count(*) AS times, max(delivered_at) AS last_at
FROM raw.file_delivery
WHERE fetch_id = ANY (%(fetch_ids)s)
GROUP BY fetch_id

-- name: staged
SELECT s.fetch_id, s.revision, s.rows, s.staged_at, s.run_id
FROM staging.staged_day AS s
WHERE s.file = 'user_orders_log' AND s.date_id = %(date_id)s

-- name: counts
SELECT fetch_id, kept, repeats, bad FROM staging.fetch_day WHERE date_id = %(date_id)s

-- name: mart
SELECT source, status, count(*) AS rows, sum(quantity) AS quantity, sum(amount) AS amount
FROM mart.f_sales
WHERE date_id = %(date_id)s
GROUP BY source, status
ORDER BY source, status DESC

-- name: rejected_rows
SELECT q.quarantine_id, q.fetch_id, q.line_no, q.state, q.reason, q.inherited_from
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
WHERE f.file = 'user_orders_log'
  AND (q.date_id = %(date_id)s OR (f.kind = 'increment' AND f.first_day = %(day)s))
ORDER BY q.fetch_id DESC, q.line_no
LIMIT %(limit)s

-- name: lines
-- The rows of a day in the mart, each with the line that it was made from.
SELECT f.id, f.source, f.status, l.uniq_id, f.item_id, f.customer_id, f.city_id, f.quantity, f.amount, l.fetch_id, l.file,
       l.line_no
FROM mart.f_sales AS f
JOIN mart.f_sales_lines AS l ON l.id = f.id AND l.date_id = %(date_id)s
WHERE f.date_id = %(date_id)s
ORDER BY l.file, l.line_no, f.id
LIMIT %(limit)s OFFSET %(offset)s
