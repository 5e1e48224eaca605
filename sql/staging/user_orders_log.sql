-- A day is replaced: the statements before_copy in order, the COPY, the statements after_copy in order. BETWEEN is for
-- the BRIN index, which knows spans.

-- name: before_copy_remember_ids
CREATE TEMP TABLE former ON COMMIT DROP AS
SELECT date_id, uniq_id, status, sale_id
FROM staging.user_orders_log
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)

-- name: before_copy_clear
DELETE FROM staging.user_orders_log
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)

-- name: copy_days
COPY staging.user_orders_log (line_no, date_id, uniq_id, date_time, city_id, city_name, customer_id, first_name,
                              last_name, item_id, item_name, quantity, payment_amount, status, fetch_id)
FROM STDIN (FORMAT binary)

-- name: after_copy_keep_ids
-- A line that was there before keeps its mart id. Without EXISTS a first load would be scanned for nothing.
UPDATE staging.user_orders_log AS s SET sale_id = f.sale_id
FROM former AS f
WHERE (s.date_id, s.uniq_id, s.status) = (f.date_id, f.uniq_id, f.status)
  AND s.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND EXISTS (SELECT FROM former)

-- name: after_copy_forget
DROP TABLE former
