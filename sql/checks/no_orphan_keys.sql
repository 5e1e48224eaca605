-- Find rows whose day, city, customer or item is missing in its dimension. Legacy rows are exempt: their writer filled no
-- dimensions.
-- name: offending
SELECT f.date_id, count(*) AS offending,
       min(format('id %%s: %%s', f.id, CASE WHEN d.date_id IS NULL THEN format('day %%s', f.date_id)
                                          WHEN c.city_id IS NULL THEN format('city %%s', f.city_id)
                                          WHEN k.customer_id IS NULL THEN format('customer %%s', f.customer_id)
                                          ELSE format('item %%s', f.item_id) END)) AS example
FROM mart.f_sales AS f
LEFT JOIN mart.d_calendar AS d USING (date_id)
LEFT JOIN mart.d_city AS c USING (city_id)
LEFT JOIN mart.d_customer AS k USING (customer_id)
LEFT JOIN mart.d_item AS i USING (item_id)
WHERE f.date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND f.source <> 'legacy'
  AND (d.date_id IS NULL OR c.city_id IS NULL OR k.customer_id IS NULL OR i.item_id IS NULL)
GROUP BY f.date_id
ORDER BY f.date_id
