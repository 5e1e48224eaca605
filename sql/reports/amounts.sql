-- name: steps
-- Net and refunded amount of each step of the period (day, week, month or year), zero where nothing was sold.
WITH days AS (
    SELECT to_date(date_id::text, 'YYYYMMDD') AS day, sum(amount) AS net_amount,
           sum(amount) FILTER (WHERE status = 'refunded') AS refunded_amount
    FROM mart.f_sales
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY date_id
)
SELECT step::date AS step, coalesce(sum(net_amount), 0) AS net_amount,
       coalesce(sum(refunded_amount), 0) AS refunded_amount
FROM generate_series(date_trunc(%(step)s, %(first_day)s::timestamp), %(last_day)s::timestamp,
                     ('1 ' || %(step)s)::interval) AS steps (step)
LEFT JOIN days ON date_trunc(%(step)s, day::timestamp) = step
GROUP BY step
ORDER BY step
