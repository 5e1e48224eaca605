-- name: upsert
-- The latest name by event time wins; an empty cell is no name and replaces none.
INSERT INTO mart.d_item AS d (item_id, item_name, name_as_of)
SELECT DISTINCT ON (item_id) item_id, item_name, left(date_time, 19)::timestamp
FROM (
    SELECT item_id, item_name, date_time, max(line_no) AS line_no
    FROM staging.user_orders_log
    WHERE date_id = ANY (%(date_ids)s)
    GROUP BY item_id, item_name, date_time
) AS named
ORDER BY item_id, (item_name <> '') DESC, left(date_time, 19)::timestamp DESC, line_no DESC
ON CONFLICT (item_id) DO UPDATE
SET item_name = EXCLUDED.item_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.item_name <> ''
  AND (d.item_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.item_name, EXCLUDED.name_as_of)
