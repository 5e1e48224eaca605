-- name: add_days
-- Also adds the days between the calendar and the requested days, so that it has no gaps. The series uses timestamps without
-- time zone: in zones that skip midnight in spring, one with time zone would end a day early.
INSERT INTO mart.d_calendar AS c (date_id, date_actual, year_num, quarter_num, month_num, month_name, day_num,
                                  day_of_week, iso_year, iso_week)
SELECT to_char(day, 'YYYYMMDD')::integer, day::date, extract(year FROM day), extract(quarter FROM day),
       extract(month FROM day), to_char(day, 'FMMonth'), extract(day FROM day), extract(isodow FROM day),
       extract(isoyear FROM day), extract(week FROM day)
FROM (SELECT min(first_day) AS first_day, max(first_day) AS last_day FROM raw.delivery WHERE kind = 'increment') AS asked
CROSS JOIN generate_series(least(asked.first_day, %(first_day)s)::timestamp,
                           greatest(asked.last_day, %(last_day)s)::timestamp, interval '1 day') AS day
ON CONFLICT (date_id) DO UPDATE
SET date_actual = EXCLUDED.date_actual, year_num = EXCLUDED.year_num, quarter_num = EXCLUDED.quarter_num,
    month_num = EXCLUDED.month_num, month_name = EXCLUDED.month_name, day_num = EXCLUDED.day_num,
    day_of_week = EXCLUDED.day_of_week, iso_year = EXCLUDED.iso_year, iso_week = EXCLUDED.iso_week
WHERE c.date_actual IS NULL   -- a calendar from before this platform lacks the columns

-- name: staged_days
SELECT to_date(date_id::text, 'YYYYMMDD') AS day FROM staging.staged_day WHERE file = 'user_orders_log' ORDER BY date_id
