-- name: upsert
-- The latest name by event time wins; an empty cell is no name and replaces none, whenever it comes. The zone is left
-- out of the time: an impossible one (+99) would break the cast and with it the day.
INSERT INTO mart.d_item AS d (item_id, item_name, name_as_of)
SELECT DISTINCT ON (item_id) item_id, item_name, CASE WHEN item_name <> '' THEN event_time END
FROM (
    SELECT item_id, item_name, max(line_no) AS line_no,
           (CASE substr(date_time, 17, 1) WHEN ':' THEN left(date_time, 19) ELSE left(date_time, 16) END)::timestamp
               AS event_time
    FROM staging.user_orders_log
    WHERE date_id = ANY (%(date_ids)s)
    GROUP BY item_id, item_name, date_time
) AS named
ORDER BY item_id, (item_name <> '') DESC, event_time DESC, line_no DESC
ON CONFLICT (item_id) DO UPDATE
SET item_name = EXCLUDED.item_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.item_name <> ''
  AND (d.item_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.item_name, EXCLUDED.name_as_of)
