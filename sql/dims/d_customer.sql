-- name: upsert
-- The latest name by event time wins; an empty cell is no name and replaces none.
INSERT INTO mart.d_customer AS d (customer_id, first_name, last_name, name_as_of)
SELECT DISTINCT ON (customer_id) customer_id, first_name, last_name, left(date_time, 19)::timestamp
FROM (
    SELECT customer_id, first_name, last_name, date_time, max(line_no) AS line_no
    FROM staging.user_orders_log
    WHERE date_id = ANY (%(date_ids)s)
    GROUP BY customer_id, first_name, last_name, date_time
) AS named
ORDER BY customer_id, (first_name || last_name <> '') DESC, left(date_time, 19)::timestamp DESC, line_no DESC
ON CONFLICT (customer_id) DO UPDATE
SET first_name = EXCLUDED.first_name, last_name = EXCLUDED.last_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.first_name || EXCLUDED.last_name <> ''
  AND (d.first_name, d.last_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.first_name, EXCLUDED.last_name, EXCLUDED.name_as_of)
