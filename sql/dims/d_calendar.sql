-- name: add_days
INSERT INTO mart.d_calendar AS c (date_id, date_actual, year_num, quarter_num, month_num, month_name, day_num,
                                  day_of_week, iso_year, iso_week)
SELECT to_char(day, 'YYYYMMDD')::integer, day::date, extract(year FROM day), extract(quarter FROM day),
       extract(month FROM day), to_char(day, 'FMMonth'), extract(day FROM day), extract(isodow FROM day),
       extract(isoyear FROM day), extract(week FROM day)
FROM generate_series(%(first_day)s::date, %(last_day)s::date, interval '1 day') AS day
ON CONFLICT (date_id) DO UPDATE
SET date_actual = EXCLUDED.date_actual, year_num = EXCLUDED.year_num, quarter_num = EXCLUDED.quarter_num,
    month_num = EXCLUDED.month_num, month_name = EXCLUDED.month_name, day_num = EXCLUDED.day_num,
    day_of_week = EXCLUDED.day_of_week, iso_year = EXCLUDED.iso_year, iso_week = EXCLUDED.iso_week
WHERE c.date_actual IS NULL   -- a calendar from before this platform lacks the columns

-- name: span
SELECT to_date(min(date_id)::text, 'YYYYMMDD') AS first_day, to_date(max(date_id)::text, 'YYYYMMDD') AS last_day
FROM mart.d_calendar

-- name: staged_days
SELECT date_id FROM staging.staged_day WHERE file = 'user_orders_log' ORDER BY date_id
