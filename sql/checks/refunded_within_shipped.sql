-- Find orders of the days with more refunded than shipped, in quantity or amount, over all days.
-- name: offending
SELECT last_date_id AS date_id, count(*) AS offending,
       min(format('order %%s: %%s pieces and %%s net', order_id, quantity, amount)) AS example
FROM (
    SELECT p.order_id, max(f.date_id) AS last_date_id, sum(f.quantity) AS quantity, sum(f.amount) AS amount
    FROM staging.partner_order_line AS p
    JOIN mart.f_sales AS f ON f.id = p.sale_id AND f.source = 'partner_orders'
    WHERE (p.project_id, p.order_id) IN (SELECT project_id, order_id FROM staging.partner_order_line
                                         WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s)
    GROUP BY p.project_id, p.order_id
    HAVING sum(f.quantity) < 0 OR sum(f.amount) < 0
) AS net
GROUP BY last_date_id
ORDER BY last_date_id
