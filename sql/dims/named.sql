-- Names as they stand in lines, on their way into the dimensions; `first` alone is used where a name has one part.

-- name: create
CREATE TEMP TABLE named (
    dimension text NOT NULL,
    id        integer NOT NULL,
    first     text NOT NULL,
    second    text NOT NULL,
    date_time text NOT NULL,       -- of the latest line with this name
    line_no   bigint NOT NULL
) ON COMMIT DROP

-- name: copy
COPY named (dimension, id, first, second, date_time, line_no) FROM STDIN (FORMAT csv)

-- name: from_staging
INSERT INTO named (dimension, id, first, second, date_time, line_no)
SELECT 'd_city', city_id, city_name, '', max(date_time), max(line_no)
FROM staging.user_orders_log WHERE date_id = ANY (%(date_ids)s) GROUP BY city_id, city_name
UNION ALL
SELECT 'd_customer', customer_id, first_name, last_name, max(date_time), max(line_no)
FROM staging.user_orders_log WHERE date_id = ANY (%(date_ids)s) GROUP BY customer_id, first_name, last_name
UNION ALL
SELECT 'd_item', item_id, item_name, '', max(date_time), max(line_no)
FROM staging.user_orders_log WHERE date_id = ANY (%(date_ids)s) GROUP BY item_id, item_name

-- name: drop
DROP TABLE named
