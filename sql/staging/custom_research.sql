-- name: before_copy_clear
DELETE FROM staging.custom_research WHERE date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.custom_research (line_no, date_id, date_time, category_id, geo_id, sales_qty, sales_amt, fetch_id)
FROM STDIN (FORMAT binary)

-- name: all
SELECT line_no, date_id, date_time, category_id, geo_id, sales_qty, sales_amt
FROM staging.custom_research
ORDER BY date_id, line_no

-- name: around
-- Staged rows of a file near a line; `first_date_id` and `last_date_id` are its period.
SELECT * FROM staging.custom_research
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND fetch_id = %(fetch_id)s
  AND line_no BETWEEN %(first_line)s AND %(last_line)s
ORDER BY line_no, date_id
LIMIT %(limit)s
