-- Find days with sales before the first week, whose weeks no run will compute. Covers all days, not only those of the run.
-- name: offending
SELECT date_id, count(*) AS offending, 'before the week of SALES_FIRST_DAY' AS example
FROM mart.f_sales
WHERE date_id < %(first_week_date_id)s
GROUP BY date_id
ORDER BY date_id
