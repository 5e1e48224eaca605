-- The same uniq_id on another date is another event, and worth a look. Dates within a month of the days are compared,
-- so that the cost follows the days and not the history.
-- name: offending
SELECT a.date_id, count(DISTINCT a.uniq_id) AS offending,
       min(format('uniq_id %%s also on %%s', a.uniq_id, b.date_id)) AS example
FROM staging.user_orders_log AS a
JOIN staging.user_orders_log AS b ON b.uniq_id = a.uniq_id AND b.date_id <> a.date_id
WHERE a.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
  AND b.date_id BETWEEN %(near_first_date_id)s AND %(near_last_date_id)s
GROUP BY a.date_id
ORDER BY a.date_id
