-- name: fingerprint
-- Changes with any row that is copied to the lake; independent of the order of rows.
SELECT concat(count(*), '.', coalesce(sum(hashtextextended(
           ROW (date_id, date_actual, year_num, quarter_num, month_num, month_name, day_num, day_of_week, iso_year,
                iso_week)::text, 0)), 0)) AS contents
FROM mart.d_calendar

-- name: copy_rows
-- The columns of sales_assets/schemas/lake.py, in their order.
COPY (
    SELECT date_id, date_actual, year_num, quarter_num, month_num, month_name, day_num, day_of_week, iso_year, iso_week
    FROM mart.d_calendar
) TO STDOUT (FORMAT csv)
