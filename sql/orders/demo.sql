-- name: known
-- Find items, cities and customers of the mart for the demo's orders. The customers have no refunds yet, so that the
-- demo's refund is the only one.
SELECT (SELECT array_agg(item_id) FROM (SELECT item_id FROM mart.d_item WHERE item_name IS NOT NULL
                                        ORDER BY item_id LIMIT %(items)s) AS i) AS item_ids,
       (SELECT min(city_id) FROM mart.d_city WHERE city_name IS NOT NULL) AS city_id,
       (SELECT array_agg(customer_id)
        FROM (SELECT customer_id FROM mart.d_customer AS c
              WHERE first_name IS NOT NULL
                AND NOT EXISTS (SELECT FROM mart.f_sales AS f
                                WHERE f.customer_id = c.customer_id AND f.status = 'refunded'
                                  AND f.source <> 'partner_orders')
              ORDER BY customer_id LIMIT %(customers)s) AS u) AS customer_ids

-- name: staged
SELECT count(*) AS events FROM staging.partner_order_event WHERE order_id = ANY (%(order_ids)s)

-- name: lines
SELECT l.order_id, f.date_id, f.status, i.item_name, f.quantity, f.amount
FROM staging.partner_order_line AS l
JOIN mart.f_sales AS f ON f.id = l.sale_id
LEFT JOIN mart.d_item AS i ON i.item_id = f.item_id
WHERE l.order_id = ANY (%(order_ids)s)
ORDER BY l.order_id, f.date_id, f.status DESC, l.line_no
