-- name: copy_days
-- The columns of sales_assets/schemas/lake.py, in their order.
COPY (
    SELECT f.date_id, to_date(f.date_id::text, 'YYYYMMDD'), f.id, coalesce(s.uniq_id, p.uniq_id), f.item_id, f.customer_id,
           f.city_id, f.quantity, f.amount, f.status, f.source
    FROM mart.f_sales AS f
    LEFT JOIN staging.user_orders_log AS s
           ON s.sale_id = f.id AND s.date_id = f.date_id AND f.source = 'report_api'
              AND s.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    LEFT JOIN staging.partner_order_line AS p
           ON p.sale_id = f.id AND f.source = 'partner_orders'
    WHERE f.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND f.date_id = ANY (%(date_ids)s)
    ORDER BY f.date_id, f.id
) TO STDOUT (FORMAT csv)

-- name: sums_of_days
SELECT date_id, status, source, count(*) AS rows, sum(quantity) AS quantity, sum(amount) AS amount,
       sum(id::bigint) AS sale_ids, sum(item_id) AS item_ids, sum(customer_id) AS customer_ids, sum(city_id) AS city_ids
FROM mart.f_sales
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)
GROUP BY date_id, status, source
