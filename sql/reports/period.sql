-- name: last_day
-- The latest day with sales, of any source; one row, NULL for an empty mart. Numbers that are not a date are left out.
SELECT max(date_id) AS date_id FROM mart.f_sales WHERE date_id BETWEEN 10000101 AND 99991231

-- name: first_day
-- The first day with sales within a period; one row, NULL if there is none.
SELECT min(date_id) AS date_id FROM mart.f_sales WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
