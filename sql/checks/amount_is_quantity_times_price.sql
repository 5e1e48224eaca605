-- Lines whose total is not quantity x price, by the price list of the day. Items without a price are left out.
-- name: offending
SELECT l.date_id, count(*) AS offending,
       min(format('uniq_id %%s: %%s x %%s is not %%s', l.uniq_id, l.quantity, p.price, l.payment_amount)) AS example
FROM staging.user_orders_log AS l
JOIN staging.price_log AS p USING (date_id, item_name)
WHERE l.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND l.payment_amount <> round(l.quantity * p.price, 2)
GROUP BY l.date_id
ORDER BY l.date_id
