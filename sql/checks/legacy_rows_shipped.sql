-- Rows from before the statuses are shipped, without exception.
-- name: offending
SELECT date_id, count(*) AS offending, min(format('id %%s: %%s', id, status)) AS example
FROM mart.f_sales
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND source = 'legacy' AND status <> 'shipped'
GROUP BY date_id
ORDER BY date_id
