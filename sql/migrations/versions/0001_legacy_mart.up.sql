-- The original mart (docs/data-contracts/day-rules.md, "Mart"). A fresh warehouse gets the table; an existing one is only
-- examined, so that obstacles to an upgrade in place are reported before anything is changed.
CREATE SCHEMA IF NOT EXISTS mart;

-- A column's type can't change under a view. This drops the views that read some tables, directly or through each other,
-- and returns the statements that restore them with options, owner, grants and comments.
CREATE FUNCTION ops.take_down_views(tables regclass[]) RETURNS text[] LANGUAGE plpgsql AS $function$
DECLARE
    reader   record;
    view     text;
    views    text[] := '{}';
    put_back text[] := '{}';
BEGIN
    FOR reader IN
        WITH RECURSIVE reading AS (
            SELECT r.ev_class AS oid, 1 AS depth
            FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
            WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (tables) AND r.ev_class <> d.refobjid
            UNION
            SELECT r.ev_class, reading.depth + 1
            FROM reading
            JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = reading.oid
            JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass AND r.ev_class <> d.refobjid
        )
        SELECT c.oid, c.oid::regclass::text AS name, c.relowner, array_to_string(c.reloptions, ', ') AS options, c.relacl,
               c.relkind = 'v'
               AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid)
               AND NOT EXISTS (SELECT FROM pg_attrdef WHERE adrelid = c.oid)
               AND NOT EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid AND rulename <> '_RETURN') AS is_plain
        FROM (SELECT oid, max(depth) AS depth FROM reading GROUP BY oid) AS deepest
        JOIN pg_class AS c USING (oid)
        ORDER BY deepest.depth, c.oid
    LOOP
        IF NOT reader.is_plain THEN
            RAISE EXCEPTION '% reads %, whose column types must change, and it is more than a plain view',
                reader.name, array_to_string(tables, ', ')
                USING HINT = 'A materialized view, or a view with triggers, rules or defaults, can not be put back '
                             'for sure. Drop it, migrate, and create it again.';
        END IF;
        views := reader.name || views;
        put_back := put_back
            || format('CREATE VIEW %s%s AS %s', reader.name, ' WITH (' || reader.options || ')', pg_get_viewdef(reader.oid))
            || format('ALTER VIEW %s OWNER TO %s', reader.name, reader.relowner::regrole)
            || ARRAY(
                SELECT format('COMMENT ON %s IS %L', coalesce('COLUMN ' || reader.name || '.' || quote_ident(a.attname),
                                                              'VIEW ' || reader.name), d.description)
                FROM pg_description AS d
                LEFT JOIN pg_attribute AS a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
                WHERE d.classoid = 'pg_class'::regclass AND d.objoid = reader.oid)
            || ARRAY(
                SELECT format('GRANT %s%s ON %s TO %s%s', a.privilege_type, ' (' || quote_ident(granted.attname) || ')',
                              reader.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
                FROM (SELECT NULL AS attname, reader.relacl AS acl
                      UNION ALL
                      SELECT attname, attacl FROM pg_attribute WHERE attrelid = reader.oid) AS granted,
                     aclexplode(granted.acl) AS a
                WHERE a.grantee <> reader.relowner);
    END LOOP;
    FOREACH view IN ARRAY views LOOP
        EXECUTE format('DROP VIEW %s', view);
    END LOOP;
    RETURN put_back;
END
$function$;

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
    -- Other names of the columns in existing marts: payment_amount is from the report file, and the original
    -- specification spells city_id with a Cyrillic first letter.
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
