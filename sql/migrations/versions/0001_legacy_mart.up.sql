-- The seed's mart. A fresh warehouse gets the table; an existing one is only examined, so that whatever cannot be
-- upgraded in place is told before anything is changed.
CREATE SCHEMA IF NOT EXISTS mart;

CREATE TABLE IF NOT EXISTS mart.f_sales (
    id          serial PRIMARY KEY,
    date_id     integer NOT NULL,           -- YYYYMMDD
    item_id     integer NOT NULL,
    customer_id integer NOT NULL,
    city_id     integer NOT NULL,
    quantity    numeric(10, 2),
    amount      numeric(10, 2)
);

DO $examine$
DECLARE
    wanted  text;
    other   text;
    -- Names under which the columns were met: payment_amount comes from the report file, and the seed itself
    -- spells city_id with a Cyrillic first letter.
    aliases constant jsonb := '{
        "amount":      ["payment_amount", "sum", "total_amount", "sales_amount"],
        "quantity":    ["qty", "sales_qty", "count"],
        "city_id":     ["сity_id", "geo_id"],
        "customer_id": ["client_id", "cust_id"],
        "item_id":     ["product_id"],
        "date_id":     ["date", "day_id"],
        "id":          ["sale_id", "sales_id"]
    }';
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = 'mart.f_sales'::regclass) <> 'r' THEN
        RAISE EXCEPTION 'mart.f_sales is not an ordinary table, so it cannot be upgraded in place'
            USING HINT = 'Rename it, run the migration, and copy its rows into the new mart.f_sales.';
    END IF;
    FOR wanted IN SELECT jsonb_object_keys(aliases) LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = 'mart.f_sales'::regclass AND attname = wanted AND NOT attisdropped);
        SELECT attname INTO other FROM pg_attribute
        WHERE attrelid = 'mart.f_sales'::regclass AND NOT attisdropped AND attnum > 0
          AND (aliases -> wanted) ? lower(attname::text)
        LIMIT 1;
        RAISE EXCEPTION 'mart.f_sales has no column %', wanted
            USING HINT = CASE
                WHEN other IS NOT NULL THEN format(
                    'Its column %I looks like it. Run: ALTER TABLE mart.f_sales RENAME COLUMN %I TO %I;',
                    other, other, wanted)
                ELSE format('Run: ALTER TABLE mart.f_sales RENAME COLUMN <its present name> TO %I;', wanted)
            END;
    END LOOP;
END
$examine$;
