-- name: clear_days
DELETE FROM mart.f_activity WHERE date_id = ANY (%(date_ids)s)

-- name: fill_days
INSERT INTO mart.f_activity (date_id, customer_id, action_id, events, quantity)
SELECT date_id, customer_id, action_id, count(*), sum(quantity)
FROM staging.user_activity_log
WHERE date_id = ANY (%(date_ids)s)
GROUP BY date_id, customer_id, action_id

-- name: summary
SELECT date_id, count(*) AS rows, count(DISTINCT customer_id) AS customers, sum(events)::bigint AS events,
       sum(quantity) AS quantity
FROM mart.f_activity
WHERE date_id = ANY (%(date_ids)s)
GROUP BY date_id
