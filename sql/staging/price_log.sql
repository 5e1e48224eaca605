-- name: before_copy_clear
DELETE FROM staging.price_log WHERE date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.price_log (line_no, item_name, price, date_id, fetch_id)
FROM STDIN (FORMAT binary)

-- name: all
SELECT line_no, item_name, price, date_id
FROM staging.price_log
ORDER BY date_id, line_no

-- name: around
-- Staged rows of a file near a line; `first_date_id` and `last_date_id` are its period.
SELECT * FROM staging.price_log
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND fetch_id = %(fetch_id)s
  AND line_no BETWEEN %(first_line)s AND %(last_line)s
ORDER BY line_no, date_id
LIMIT %(limit)s
