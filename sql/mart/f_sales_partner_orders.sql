-- name: clear_days
-- Deletes only rows of this source, not those of the report API or legacy rows of the same days.
DELETE FROM mart.f_sales
WHERE source = 'partner_orders' AND (date_id = ANY (%(date_ids)s) OR id IN (SELECT sale_id FROM former_line))

-- name: add_dimension_rows
-- Names arrive with the rows of the report API; until then, dimension rows without a name avoid orphans in the mart.
WITH cities AS (
    INSERT INTO mart.d_city (city_id)
    SELECT DISTINCT city_id FROM staging.partner_order_line WHERE date_id = ANY (%(date_ids)s)
    ON CONFLICT (city_id) DO NOTHING
), customers AS (
    INSERT INTO mart.d_customer (customer_id)
    SELECT DISTINCT customer_id FROM staging.partner_order_line WHERE date_id = ANY (%(date_ids)s)
    ON CONFLICT (customer_id) DO NOTHING
)
INSERT INTO mart.d_item (item_id)
SELECT DISTINCT item_id FROM staging.partner_order_line WHERE date_id = ANY (%(date_ids)s)
ON CONFLICT (item_id) DO NOTHING

-- name: fill_days
INSERT INTO mart.f_sales (id, date_id, item_id, customer_id, city_id, quantity, amount, status, source)
SELECT sale_id, date_id, item_id, customer_id, city_id,
       CASE status WHEN 'refunded' THEN -quantity ELSE quantity END,
       CASE status WHEN 'refunded' THEN -amount ELSE amount END,
       status, 'partner_orders'
FROM staging.partner_order_line
WHERE date_id = ANY (%(date_ids)s)

-- name: summary
SELECT date_id, count(*) AS rows, count(*) FILTER (WHERE status = 'refunded') AS refunded_rows,
       coalesce(sum(amount), 0) AS net_amount, coalesce(sum(quantity), 0) AS net_quantity
FROM mart.f_sales
WHERE source = 'partner_orders' AND date_id = ANY (%(date_ids)s)
GROUP BY date_id
