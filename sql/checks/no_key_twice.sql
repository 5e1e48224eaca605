-- Keys (date, uniq_id, status) that stand more than once in staging.
-- name: offending
SELECT date_id, count(*) AS offending, min(format('uniq_id %%s, %%s', uniq_id, status)) AS example
FROM (
    SELECT date_id, uniq_id, status
    FROM staging.user_orders_log
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY date_id, uniq_id, status
    HAVING count(*) > 1
) AS twice
GROUP BY date_id
ORDER BY date_id
