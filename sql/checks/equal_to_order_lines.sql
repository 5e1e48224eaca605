-- Find mart rows that differ from their order lines, rows without order line, and order lines without row.
-- name: offending
SELECT coalesce(p.date_id, f.date_id) AS date_id, count(*) AS offending,
       min(format('order %%s, line %%s, %%s, id %%s', p.order_id, p.line_no, coalesce(p.status, f.status),
                  coalesce(p.sale_id, f.id))) AS example
FROM (
    SELECT sale_id, date_id, order_id, line_no, status, item_id, customer_id, city_id,
           CASE status WHEN 'refunded' THEN -quantity ELSE quantity END AS quantity,
           CASE status WHEN 'refunded' THEN -amount ELSE amount END AS amount
    FROM staging.partner_order_line
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS p
FULL JOIN (
    SELECT * FROM mart.f_sales
    WHERE source = 'partner_orders' AND date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS f ON f.id = p.sale_id
WHERE (p.date_id, p.status, p.item_id, p.customer_id, p.city_id, p.quantity, p.amount)
      IS DISTINCT FROM (f.date_id, f.status, f.item_id, f.customer_id, f.city_id, f.quantity, f.amount)
GROUP BY 1
ORDER BY 1
