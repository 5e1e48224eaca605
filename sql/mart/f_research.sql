-- name: clear_days
DELETE FROM mart.f_research WHERE date_id = ANY (%(date_ids)s)

-- name: fill_days
INSERT INTO mart.f_research (date_id, category_id, geo_id, sales_qty, sales_amt)
SELECT date_id, category_id, geo_id, sales_qty, sales_amt
FROM staging.custom_research
WHERE date_id = ANY (%(date_ids)s)

-- name: summary
SELECT date_id, count(*) AS rows, sum(sales_qty) AS pieces_sold, sum(sales_amt) AS amount_sold
FROM mart.f_research
WHERE date_id = ANY (%(date_ids)s)
GROUP BY date_id
