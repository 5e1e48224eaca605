CREATE TABLE staging.user_orders_log_with_names (
    date_id        integer NOT NULL,
    uniq_id        text NOT NULL,
    status         text NOT NULL CONSTRAINT user_orders_log_status_check CHECK (status IN ('shipped', 'refunded')),
    date_time      text NOT NULL,
    city_id        integer NOT NULL,
    city_name      text NOT NULL,
    customer_id    integer NOT NULL,
    first_name     text NOT NULL,
    last_name      text NOT NULL,
    item_id        integer NOT NULL,
    item_name      text NOT NULL,
    quantity       numeric(10, 2) NOT NULL CONSTRAINT user_orders_log_quantity_check CHECK (quantity >= 0),
    payment_amount numeric(10, 2) NOT NULL CONSTRAINT user_orders_log_payment_amount_check CHECK (payment_amount >= 0),
    fetch_id       bigint NOT NULL,
    line_no        bigint NOT NULL,
    sale_id        bigint NOT NULL                 -- mart.f_sales.id of the row made from this line
);
-- Each row gets the names in use at its event time. If names alternated, it may differ from that in the file.
INSERT INTO staging.user_orders_log_with_names (date_id, uniq_id, status, date_time, city_id, city_name, customer_id,
    first_name, last_name, item_id, item_name, quantity, payment_amount, fetch_id, line_no, sale_id)
SELECT date_id, uniq_id, status, date_time, city_id, coalesce(city_name, ''), customer_id, coalesce(first_name, ''),
       coalesce(last_name, ''), item_id, coalesce(item_name, ''), quantity, payment_amount, fetch_id, line_no, sale_id
FROM staging.user_orders_log_named;
DO $drop$
BEGIN
    DROP VIEW staging.user_orders_log_named;
    DROP FUNCTION staging.name_at(text, integer, text);
EXCEPTION WHEN dependent_objects_still_exist THEN
    RAISE EXCEPTION 'a view reads names from staging, where they go back into the rows of user_orders_log: %', SQLERRM
        USING HINT = 'Drop the view, migrate, and create it again on staging.user_orders_log.';
END
$drop$;

CREATE TEMP TABLE put_back AS
SELECT * FROM unnest(ops.take_down_views(ARRAY['staging.user_orders_log'::regclass])) WITH ORDINALITY AS v (statement, place)
UNION ALL
SELECT format('GRANT %s ON staging.user_orders_log TO %s%s', a.privilege_type,
              CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), 0
FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
WHERE c.oid = 'staging.user_orders_log'::regclass AND a.grantee <> c.relowner;
DROP TABLE staging.user_orders_log, staging.name;
DROP FUNCTION staging.event_time(text);
ALTER TABLE staging.user_orders_log_with_names RENAME TO user_orders_log;
CREATE INDEX user_orders_log_days ON staging.user_orders_log USING brin (date_id) WITH (pages_per_range = 32);
DO $put_back$
DECLARE
    statement text;
BEGIN
    FOR statement IN SELECT p.statement FROM put_back AS p ORDER BY place LOOP
        EXECUTE statement;
    END LOOP;
    EXECUTE format('ALTER TABLE staging.user_orders_log ALTER COLUMN sale_id SET DEFAULT nextval(%L)',
                   pg_get_serial_sequence('mart.f_sales', 'id'));
END
$put_back$;
DROP TABLE put_back;
