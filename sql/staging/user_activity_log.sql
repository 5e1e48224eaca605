-- name: before_copy_clear
DELETE FROM staging.user_activity_log WHERE date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.user_activity_log (line_no, date_id, uniq_id, date_time, action_id, customer_id, quantity, fetch_id)
FROM STDIN (FORMAT binary)

-- name: around
-- Staged rows of a file near a line; `first_date_id` and `last_date_id` are its period.
SELECT * FROM staging.user_activity_log
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND fetch_id = %(fetch_id)s
  AND line_no BETWEEN %(first_line)s AND %(last_line)s
ORDER BY line_no, date_id
LIMIT %(limit)s
