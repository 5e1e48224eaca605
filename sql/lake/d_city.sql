-- name: fingerprint
-- Changes with any row that is copied to the lake; independent of the order of rows.
SELECT concat(count(*), '.', coalesce(sum(hashtextextended(ROW (city_id, city_name, name_as_of)::text, 0)), 0)) AS contents
FROM mart.d_city

-- name: copy_rows
-- The columns of sales_assets/schemas/lake.py, in their order.
COPY (SELECT city_id, city_name, name_as_of FROM mart.d_city)
TO STDOUT (FORMAT csv)
