-- Lines whose total is not quantity x price, by the price list of the day. Items without a price are left out. The item's
-- name is the one in use at the time of the line; that is looked up only where a total differs.
-- name: offending
WITH priced AS (
    SELECT p.date_id, n.id AS item_id, p.item_name, p.price
    FROM staging.price_log AS p
    JOIN staging.name AS n ON n.dimension = 'd_item' AND n.first = p.item_name
    WHERE p.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
), compared AS (
    -- FULL is for the planner, which has no statistics of a price list loaded a moment ago: taking it for one row, it
    -- would read the lines once per price (4 s a million lines, where a hash takes 0.4). OFFSET 0 keeps it FULL.
    SELECT date_id, item_id, l.uniq_id, l.date_time, l.quantity, l.payment_amount, p.item_name, p.price
    FROM (SELECT * FROM staging.user_orders_log WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s) AS l
    FULL JOIN priced AS p USING (date_id, item_id)
    OFFSET 0
)
SELECT date_id, count(*) AS offending,
       min(format('uniq_id %%s: %%s x %%s is not %%s', uniq_id, quantity, price, payment_amount)) AS example
FROM compared
CROSS JOIN LATERAL staging.name_at('d_item', item_id, date_time) AS named
WHERE payment_amount <> round(quantity * price, 2) AND named.first = item_name
GROUP BY date_id
ORDER BY date_id
