-- A view that reads names from staging.user_orders_log can't be restored: it has to read them from the view below.
CREATE TEMP TABLE put_back AS
SELECT * FROM unnest(ops.take_down_views(ARRAY['staging.user_orders_log'::regclass])) WITH ORDINALITY AS v (statement, place)
UNION ALL
SELECT format('GRANT %s ON staging.user_orders_log TO %s%s', a.privilege_type,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), 0
FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
WHERE c.oid = 'staging.user_orders_log'::regclass AND a.grantee <> c.relowner;

ALTER TABLE staging.user_orders_log RENAME TO user_orders_log_with_names;
ALTER INDEX staging.user_orders_log_days RENAME TO user_orders_log_with_names_days;

-- The time of an order row, without fractions and zones: an impossible zone (+99) would break a cast, and with it a day.
CREATE FUNCTION staging.event_time(date_time text) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (CASE substr(date_time, 17, 1) WHEN ':' THEN left(date_time, 19) ELSE left(date_time, 16) END)::timestamp
$$;

-- Each distinct name of a city, customer or item, with the event times of its first and last use. Empty names are stored
-- too, since rows have them.
CREATE TABLE staging.name (
    dimension  text NOT NULL CHECK (dimension IN ('d_city', 'd_customer', 'd_item')),
    id         integer NOT NULL,                -- city_id, customer_id or item_id
    first      text NOT NULL,                   -- of a city or item its only part
    second     text NOT NULL,
    first_seen timestamp NOT NULL,
    last_seen  timestamp NOT NULL,
    last_line  bigint NOT NULL,                 -- of the raw file, at last_seen
    loaded_at  timestamptz NOT NULL,            -- of the load that saw it at last_seen, latest
    stored_at  timestamptz NOT NULL,            -- of the latest load that saw it, at any event time
    CHECK (first_seen <= last_seen)
);
-- By a digest: a name may exceed the maximum length of an index entry.
CREATE UNIQUE INDEX name_once ON staging.name (dimension, id, (md5(md5(first) || second)::uuid));

INSERT INTO staging.name (dimension, id, first, second, first_seen, last_seen, last_line, loaded_at, stored_at)
SELECT dimension, id, first, second, min(seen), max(seen), (array_agg(line_no ORDER BY seen DESC, line_no DESC))[1],
       now(), now()
FROM (
    SELECT 'd_city' AS dimension, city_id AS id, city_name AS first, '' AS second,
           staging.event_time(date_time) AS seen, max(line_no) AS line_no
    FROM staging.user_orders_log_with_names GROUP BY 2, 3, 5
    UNION ALL
    SELECT 'd_customer', customer_id, first_name, last_name, staging.event_time(date_time), max(line_no)
    FROM staging.user_orders_log_with_names GROUP BY 2, 3, 4, 5
    UNION ALL
    SELECT 'd_item', item_id, item_name, '', staging.event_time(date_time), max(line_no)
    FROM staging.user_orders_log_with_names GROUP BY 2, 3, 5
) AS used
GROUP BY dimension, id, first, second;

-- Wide columns first: nothing is lost between them to alignment.
CREATE TABLE staging.user_orders_log (
    fetch_id       bigint NOT NULL,
    line_no        bigint NOT NULL,
    sale_id        bigint NOT NULL,                -- mart.f_sales.id of the row made from this line
    date_id        integer NOT NULL,
    city_id        integer NOT NULL,
    customer_id    integer NOT NULL,
    item_id        integer NOT NULL,
    uniq_id        text NOT NULL,
    date_time      text NOT NULL,
    quantity       numeric(10, 2) NOT NULL CHECK (quantity >= 0),
    payment_amount numeric(10, 2) NOT NULL CHECK (payment_amount >= 0),
    status         text NOT NULL CHECK (status IN ('shipped', 'refunded'))
);
INSERT INTO staging.user_orders_log (fetch_id, line_no, sale_id, date_id, city_id, customer_id, item_id, uniq_id, date_time,
                                     quantity, payment_amount, status)
SELECT fetch_id, line_no, sale_id, date_id, city_id, customer_id, item_id, uniq_id, date_time, quantity, payment_amount, status
FROM staging.user_orders_log_with_names;
DROP TABLE staging.user_orders_log_with_names;
CREATE INDEX user_orders_log_days ON staging.user_orders_log USING brin (date_id) WITH (pages_per_range = 32);

-- The name in use at the time of an order row; if two names alternate, the one that was first used later.
CREATE FUNCTION staging.name_at(dimension text, id integer, date_time text) RETURNS TABLE (first text, second text)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT n.first, n.second
    FROM staging.name AS n
    WHERE n.dimension = name_at.dimension AND n.id = name_at.id
      AND staging.event_time(name_at.date_time) BETWEEN n.first_seen AND n.last_seen
    ORDER BY n.first || n.second <> '' DESC, n.first_seen DESC, n.loaded_at DESC, n.last_line DESC
    LIMIT 1
$$;

CREATE VIEW staging.user_orders_log_named AS
SELECT l.fetch_id, l.line_no, l.sale_id, l.date_id, l.uniq_id, l.date_time, l.city_id, city.first AS city_name,
       l.customer_id, customer.first AS first_name, customer.second AS last_name, l.item_id, item.first AS item_name,
       l.quantity, l.payment_amount, l.status
FROM staging.user_orders_log AS l
LEFT JOIN LATERAL staging.name_at('d_city', l.city_id, l.date_time) AS city ON true
LEFT JOIN LATERAL staging.name_at('d_customer', l.customer_id, l.date_time) AS customer ON true
LEFT JOIN LATERAL staging.name_at('d_item', l.item_id, l.date_time) AS item ON true;
COMMENT ON VIEW staging.user_orders_log_named IS
    'The staged order rows with the names that city, customer and item had at the time of the row.';

DO $put_back$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT p.statement FROM put_back AS p ORDER BY place LOOP
        EXECUTE statement;
    END LOOP;
EXCEPTION WHEN undefined_column THEN
    RAISE EXCEPTION 'a view reads a name from staging.user_orders_log, which holds ids only from now on: %', SQLERRM
        USING HINT = 'Drop the view, migrate, and create it again on staging.user_orders_log_named.';
END
$put_back$;
DROP TABLE put_back;
