-- Statements that write nothing, and are refused where writing would be: by a standby, by a read-only default, or for
-- want of a privilege of the loader.
-- name: raw
INSERT INTO raw.delivery (kind, first_day, last_day, outcome)
SELECT kind, first_day, last_day, outcome FROM raw.delivery WHERE false

-- name: staging
DELETE FROM staging.user_orders_log WHERE false

-- name: mart
DELETE FROM mart.f_sales WHERE false
