-- name: before_copy_clear
DELETE FROM staging.user_activity_log WHERE date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.user_activity_log (line_no, date_id, uniq_id, date_time, action_id, customer_id, quantity, fetch_id)
FROM STDIN (FORMAT binary)
