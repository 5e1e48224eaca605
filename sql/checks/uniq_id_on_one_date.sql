-- The same uniq_id on another date is another event, and worth a look. Dates within a month of the days are compared,
-- so that the cost follows the days and not the history.
-- name: offending
SELECT l.date_id, count(*) AS offending,
       min(format('uniq_id %%s stands on %%s and on %%s', l.uniq_id, twice.first_date_id, twice.last_date_id)) AS example
FROM (
    SELECT uniq_id, min(date_id) AS first_date_id, max(date_id) AS last_date_id
    FROM staging.user_orders_log
    WHERE date_id BETWEEN %(near_first_date_id)s AND %(near_last_date_id)s
    GROUP BY uniq_id
    HAVING min(date_id) <> max(date_id)
) AS twice
JOIN staging.user_orders_log AS l USING (uniq_id)
WHERE l.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
GROUP BY l.date_id
ORDER BY l.date_id
