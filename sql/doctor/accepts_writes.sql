-- Statements that write nothing, but fail where writing would: on a standby, in a read-only session, or without the
-- loader's privileges.
-- name: raw
INSERT INTO raw.delivery (kind, first_day, last_day, outcome)
SELECT kind, first_day, last_day, outcome FROM raw.delivery WHERE false

-- name: staging
DELETE FROM staging.user_orders_log WHERE false

-- name: mart
DELETE FROM mart.f_sales WHERE false
