-- name: before_copy_clear
DELETE FROM staging.custom_research WHERE date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.custom_research (line_no, date_id, date_time, category_id, geo_id, sales_qty, sales_amt, fetch_id)
FROM STDIN (FORMAT binary)

-- name: all
SELECT line_no, date_id, date_time, category_id, geo_id, sales_qty, sales_amt
FROM staging.custom_research
ORDER BY date_id, line_no
