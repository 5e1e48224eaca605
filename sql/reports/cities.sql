-- name: top
-- The cities with the highest net amount, and all others in one last row without an id.
WITH sums AS (
    SELECT city_id, coalesce(sum(amount), 0) AS net_amount, count(*) AS rows
    FROM mart.f_sales
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY city_id
), ranked AS (
    SELECT *, row_number() OVER (ORDER BY net_amount DESC, city_id) AS place FROM sums
)
SELECT CASE WHEN place <= %(limit)s THEN city_id END AS id, min(left(city_name, 200)) AS name,
       sum(net_amount) AS net_amount, sum(rows)::bigint AS rows, count(*) AS members
FROM ranked
LEFT JOIN mart.d_city USING (city_id)
GROUP BY least(place, %(limit)s + 1), 1
ORDER BY least(place, %(limit)s + 1)
