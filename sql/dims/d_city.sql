-- name: upsert
-- The latest name by event time wins; an empty cell is no name and replaces none, whenever it comes. The zone is left
-- out of the time: an impossible one (+99) would break the cast and with it the day.
INSERT INTO mart.d_city AS d (city_id, city_name, name_as_of)
SELECT DISTINCT ON (city_id) city_id, city_name, CASE WHEN city_name <> '' THEN event_time END
FROM (
    SELECT city_id, city_name, max(line_no) AS line_no,
           (CASE substr(date_time, 17, 1) WHEN ':' THEN left(date_time, 19) ELSE left(date_time, 16) END)::timestamp
               AS event_time
    FROM staging.user_orders_log
    WHERE date_id = ANY (%(date_ids)s)
    GROUP BY city_id, city_name, date_time
) AS named
ORDER BY city_id, (city_name <> '') DESC, event_time DESC, line_no DESC
ON CONFLICT (city_id) DO UPDATE
SET city_name = EXCLUDED.city_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.city_name <> ''
  AND (d.city_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.city_name, EXCLUDED.name_as_of)
