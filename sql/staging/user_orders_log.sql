-- BETWEEN allows PostgreSQL to use the BRIN index, which stores ranges.

-- name: former_ids
COPY (
    SELECT date_id, uniq_id, status, sale_id
    FROM staging.user_orders_log
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)
) TO STDOUT (FORMAT csv)

-- name: before_copy_clear
DELETE FROM staging.user_orders_log
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.user_orders_log (line_no, date_id, uniq_id, date_time, city_id, customer_id, item_id, quantity, payment_amount,
                              status, fetch_id, sale_id)
FROM STDIN (FORMAT binary)

-- name: staged_rows
COPY (
    SELECT date_id, item_id, customer_id, city_id, quantity, payment_amount, status, sale_id
    FROM staging.user_orders_log
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)
) TO STDOUT (FORMAT csv)

-- name: around
-- Staged rows of a file near a line; `first_date_id` and `last_date_id` are its period.
SELECT * FROM staging.user_orders_log
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND fetch_id = %(fetch_id)s
  AND line_no BETWEEN %(first_line)s AND %(last_line)s
ORDER BY line_no, date_id
LIMIT %(limit)s
