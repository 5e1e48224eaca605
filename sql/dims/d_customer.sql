-- name: upsert
-- The latest name by event time wins; an empty cell is no name and replaces none, whenever it comes. The zone is left
-- out of the time: an impossible one (+99) would break the cast and with it the day.
INSERT INTO mart.d_customer AS d (customer_id, first_name, last_name, name_as_of)
SELECT DISTINCT ON (customer_id) customer_id, first_name, last_name,
       CASE WHEN first_name || last_name <> '' THEN event_time END
FROM (
    SELECT customer_id, first_name, last_name, max(line_no) AS line_no,
           (CASE substr(date_time, 17, 1) WHEN ':' THEN left(date_time, 19) ELSE left(date_time, 16) END)::timestamp
               AS event_time
    FROM staging.user_orders_log
    WHERE date_id = ANY (%(date_ids)s)
    GROUP BY customer_id, first_name, last_name, date_time
) AS named
ORDER BY customer_id, (first_name || last_name <> '') DESC, event_time DESC, line_no DESC
ON CONFLICT (customer_id) DO UPDATE
SET first_name = EXCLUDED.first_name, last_name = EXCLUDED.last_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.first_name || EXCLUDED.last_name <> ''
  AND (d.first_name, d.last_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.first_name, EXCLUDED.last_name, EXCLUDED.name_as_of)
