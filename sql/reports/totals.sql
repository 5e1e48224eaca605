-- name: period
-- What the charts of a period must add up to.
SELECT coalesce(sum(amount), 0) AS net_amount,
       coalesce(sum(amount) FILTER (WHERE status = 'refunded'), 0) AS refunded_amount, count(*) AS rows
FROM mart.f_sales
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
