-- Find days with less than half of the rows that the previously selected file had.
-- name: offending
SELECT date_id, former_rows - rows AS offending, format('%%s rows, %%s before', rows, former_rows) AS example
FROM staging.staged_day
WHERE file = 'user_orders_log' AND date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND rows * 2 < former_rows
ORDER BY date_id
