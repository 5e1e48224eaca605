-- name: before_copy_clear
DELETE FROM staging.price_log WHERE date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.price_log (line_no, item_name, price, date_id, fetch_id)
FROM STDIN (FORMAT binary)

-- name: all
SELECT line_no, item_name, price, date_id
FROM staging.price_log
ORDER BY date_id, line_no
