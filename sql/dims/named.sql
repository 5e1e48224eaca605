-- Names as they stand in lines, on their way into the dimensions; `first` alone is used where a name has one part.

-- name: create
CREATE TEMP TABLE named (
    dimension  text NOT NULL,
    id         integer NOT NULL,
    first      text NOT NULL,
    second     text NOT NULL,
    event_time text NOT NULL,  -- of the latest line with this name; in one form, so that it orders as times do. Without
                               -- the zone: an impossible one (+99) would break a cast, and with it the day
    line_no    bigint NOT NULL
) ON COMMIT DROP

-- name: copy
COPY named (dimension, id, first, second, event_time, line_no) FROM STDIN (FORMAT binary)

-- name: from_staging
-- A moment as text, as long for each: time, then line. Its maximum is the latest use of a name.
WITH used AS (
    SELECT city_id, city_name, customer_id, first_name, last_name, item_id, item_name,
           to_char((CASE substr(date_time, 17, 1) WHEN ':' THEN left(date_time, 19) ELSE left(date_time, 16) END)::timestamp,
                   'YYYY-MM-DD HH24:MI:SS') || lpad(line_no::text, 19, '0') AS moment
    FROM staging.user_orders_log
    WHERE date_id = ANY (%(date_ids)s)
), latest AS (
    SELECT 'd_city' AS dimension, city_id AS id, city_name AS first, '' AS second, max(moment) AS moment
    FROM used GROUP BY city_id, city_name
    UNION ALL
    SELECT 'd_customer', customer_id, first_name, last_name, max(moment)
    FROM used GROUP BY customer_id, first_name, last_name
    UNION ALL
    SELECT 'd_item', item_id, item_name, '', max(moment)
    FROM used GROUP BY item_id, item_name
)
INSERT INTO named (dimension, id, first, second, event_time, line_no)
SELECT dimension, id, first, second, left(moment, 19), substr(moment, 20)::bigint FROM latest

-- name: drop
DROP TABLE named
