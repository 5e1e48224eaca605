-- name: steps
-- Rows of the mart, and lines of the report API's order files that were rejected: those of the file that each day was
-- taken from (its counts follow corrections of the quarantine).
WITH sold AS (
    SELECT to_date(date_id::text, 'YYYYMMDD') AS day, count(*) AS rows
    FROM mart.f_sales
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY date_id
), rejected AS (
    SELECT to_date(s.date_id::text, 'YYYYMMDD') AS day, d.bad AS rejected_rows
    FROM staging.staged_day AS s
    JOIN staging.fetch_day AS d USING (fetch_id, date_id)
    WHERE s.file = 'user_orders_log' AND s.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
)
SELECT step::date AS step, coalesce(sum(rows), 0)::bigint AS rows,
       coalesce(sum(rejected_rows), 0)::bigint AS rejected_rows
FROM generate_series(date_trunc(%(step)s, %(first_day)s::timestamp), %(last_day)s::timestamp,
                     ('1 ' || %(step)s)::interval) AS steps (step)
LEFT JOIN (sold FULL JOIN rejected USING (day)) ON date_trunc(%(step)s, day::timestamp) = step
GROUP BY step
ORDER BY step
