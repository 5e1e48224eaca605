-- Lines whose total is not quantity x price, by the price list of the day. Items without a price are left out. The item's
-- name is the one in use at the time of the line; that is looked up only where a total differs.
-- name: offending
WITH priced AS (
    SELECT p.date_id, n.id AS item_id, p.item_name, p.price
    FROM staging.price_log AS p
    JOIN staging.name AS n ON n.dimension = 'd_item' AND n.first = p.item_name
    WHERE p.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
), suspected AS MATERIALIZED (
    SELECT l.date_id, l.sale_id, p.item_name, p.price
    FROM staging.user_orders_log AS l
    JOIN priced AS p USING (date_id, item_id)
    WHERE l.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND l.payment_amount <> round(l.quantity * p.price, 2)
)
SELECT l.date_id, count(*) AS offending,
       min(format('uniq_id %%s: %%s x %%s is not %%s', l.uniq_id, l.quantity, s.price, l.payment_amount)) AS example
FROM staging.user_orders_log_named AS l
JOIN suspected AS s USING (date_id, sale_id, item_name)
WHERE l.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
GROUP BY l.date_id
ORDER BY l.date_id
