-- mart.f_sales learns what became of a line (status) and who wrote it (source). Everything already there is shipped
-- and legacy. Old INSERTs of the seed's columns and old SELECTs go on as before: the new columns come last and have
-- defaults.
CREATE TABLE ops.dropped_foreign_key (
    statement text NOT NULL   -- what brings it back
);

-- Foreign keys make a load 21 to 23 times slower; the load itself makes the dimension rows, and a check looks for
-- orphans. Their definitions are kept for the way back.
DO $unlink$
DECLARE
    link record;
BEGIN
    FOR link IN
        SELECT conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
        WHERE conrelid = 'mart.f_sales'::regclass AND contype = 'f'
    LOOP
        INSERT INTO ops.dropped_foreign_key VALUES (format(
            'ALTER TABLE mart.f_sales ADD CONSTRAINT %I %s NOT VALID',
            link.conname, regexp_replace(link.definition, ' NOT VALID$', '')));
        EXECUTE format('ALTER TABLE mart.f_sales DROP CONSTRAINT %I', link.conname);
    END LOOP;
END
$unlink$;

-- Money is numeric(10,2). A column of another number type is converted if no value changes by it; views that read
-- f_sales are taken down for that moment and put back with their owner and grants.
DO $exact$
DECLARE
    col      record;
    odd      bigint;
    views    jsonb;
    dependent jsonb;
    grantee  record;
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = 'mart.f_sales'::regclass AND attname IN ('quantity', 'amount')
          AND (atttypid, atttypmod) <> ('numeric'::regtype, ((10 << 16) | 2) + 4))
    THEN
        RETURN;
    END IF;

    WITH RECURSIVE reading AS (
        SELECT DISTINCT r.ev_class AS oid, 1 AS depth
        FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
        WHERE d.refobjid = 'mart.f_sales'::regclass AND r.ev_class <> d.refobjid
        UNION ALL
        SELECT DISTINCT r.ev_class, reading.depth + 1
        FROM reading
        JOIN pg_depend AS d ON d.refobjid = reading.oid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite AS r ON r.oid = d.objid AND r.ev_class <> d.refobjid
    ), ordered AS (
        SELECT oid, max(depth) AS depth FROM reading GROUP BY oid
    )
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'name', c.oid::regclass::text, 'kind', c.relkind, 'definition', pg_get_viewdef(c.oid),
               'options', array_to_string(c.reloptions, ', '), 'owner', c.relowner::regrole::text,
               'comment', obj_description(c.oid),
               'grants', (SELECT coalesce(jsonb_agg(jsonb_build_object(
                              'privilege', a.privilege_type, 'option', a.is_grantable,
                              'role', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)), '[]')
                          FROM aclexplode(c.relacl) AS a WHERE a.grantee <> c.relowner)
           ) ORDER BY depth), '[]')
    INTO views
    FROM ordered JOIN pg_class AS c USING (oid);

    IF views @? '$[*] ? (@.kind != "v")' THEN
        RAISE EXCEPTION 'a materialized view reads mart.f_sales, and its number types must change: %',
            jsonb_path_query_array(views, '$[*] ? (@.kind != "v").name')
            USING HINT = 'Drop it, migrate, and create it again.';
    END IF;
    FOR dependent IN SELECT v FROM jsonb_array_elements(views) WITH ORDINALITY AS e (v, n) ORDER BY n DESC LOOP
        EXECUTE format('DROP VIEW %s', dependent ->> 'name');
    END LOOP;

    FOR col IN
        SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
        WHERE attrelid = 'mart.f_sales'::regclass AND attname IN ('quantity', 'amount')
          AND (atttypid, atttypmod) <> ('numeric'::regtype, ((10 << 16) | 2) + 4)
    LOOP
        EXECUTE format('SELECT count(*) FROM mart.f_sales WHERE %1$I::numeric <> round(%1$I::numeric, 2)
                        OR abs(%1$I::numeric) >= 1e8', col.attname) INTO odd;
        IF odd > 0 THEN
            RAISE EXCEPTION 'mart.f_sales.% is %, and % of its values do not fit numeric(10,2) exactly',
                col.attname, col.type, odd
                USING HINT = format('Decide on them first, for instance: UPDATE mart.f_sales SET %1$I = '
                                    'round(%1$I::numeric, 2) WHERE %1$I::numeric <> round(%1$I::numeric, 2);',
                                    col.attname);
        END IF;
        EXECUTE format('ALTER TABLE mart.f_sales ALTER COLUMN %1$I DROP DEFAULT,
                        ALTER COLUMN %1$I TYPE numeric(10,2) USING %1$I::numeric(10,2)', col.attname);
    END LOOP;

    FOR dependent IN SELECT v FROM jsonb_array_elements(views) WITH ORDINALITY AS e (v, n) ORDER BY n LOOP
        EXECUTE format('CREATE VIEW %s %s AS %s', dependent ->> 'name',
            CASE WHEN dependent ->> 'options' <> '' THEN format('WITH (%s)', dependent ->> 'options') ELSE '' END,
            dependent ->> 'definition');
        EXECUTE format('ALTER VIEW %s OWNER TO %s', dependent ->> 'name', dependent ->> 'owner');
        IF dependent ->> 'comment' IS NOT NULL THEN
            EXECUTE format('COMMENT ON VIEW %s IS %L', dependent ->> 'name', dependent ->> 'comment');
        END IF;
        FOR grantee IN
            SELECT * FROM jsonb_to_recordset(dependent -> 'grants') AS g (privilege text, option boolean, role text)
        LOOP
            EXECUTE format('GRANT %s ON %s TO %s%s', grantee.privilege, dependent ->> 'name', grantee.role,
                CASE WHEN grantee.option THEN ' WITH GRANT OPTION' ELSE '' END);
        END LOOP;
    END LOOP;
END
$exact$;

-- The loader gives ids itself, from the sequence that old INSERTs draw from as well.
DO $serial$
DECLARE
    identity "char" := (SELECT attidentity FROM pg_attribute
                        WHERE attrelid = 'mart.f_sales'::regclass AND attname = 'id');
    numbers  text := pg_get_serial_sequence('mart.f_sales', 'id');
BEGIN
    IF identity = 'a' THEN
        ALTER TABLE mart.f_sales ALTER COLUMN id SET GENERATED BY DEFAULT;
    ELSIF numbers IS NULL THEN
        CREATE SEQUENCE mart.f_sales_number OWNED BY mart.f_sales.id;
        numbers := 'mart.f_sales_number';
        ALTER TABLE mart.f_sales ALTER COLUMN id SET DEFAULT nextval('mart.f_sales_number');
    END IF;
    -- Rows written with explicit ids leave a sequence behind its table.
    EXECUTE format('SELECT setval(%L, greatest((SELECT last_value FROM %s), (SELECT max(id) FROM mart.f_sales)))
                    FROM mart.f_sales HAVING max(id) >= (SELECT last_value FROM %s)', numbers, numbers, numbers);
    EXECUTE format('ALTER TABLE staging.user_orders_log ALTER COLUMN sale_id SET DEFAULT nextval(%L)', numbers);
END
$serial$;

ALTER TABLE mart.f_sales
    ADD COLUMN status text NOT NULL DEFAULT 'shipped'
        CONSTRAINT f_sales_status CHECK (status IN ('shipped', 'refunded')),
    ADD COLUMN source text NOT NULL DEFAULT 'legacy'
        CONSTRAINT f_sales_source CHECK (source IN ('report_api', 'partner_orders', 'legacy'));

CREATE INDEX IF NOT EXISTS f_sales_date_id ON mart.f_sales (date_id);

COMMENT ON TABLE mart.f_sales IS
    'A row per sold or refunded line. Refunded rows are negative, so every SUM is net.';
COMMENT ON COLUMN mart.f_sales.date_id IS 'Calendar day of the event, YYYYMMDD.';
COMMENT ON COLUMN mart.f_sales.quantity IS 'Pieces; negative for refunded lines.';
COMMENT ON COLUMN mart.f_sales.amount IS 'Total of the line in the shop''s currency; negative for refunded lines.';
COMMENT ON COLUMN mart.f_sales.status IS 'shipped or refunded; rows from before the statuses are shipped.';
COMMENT ON COLUMN mart.f_sales.source IS 'Who wrote the row: report_api, partner_orders or legacy.';

-- From a number back to the file: which line of which kept fetch made a row.
CREATE VIEW mart.f_sales_lines AS
SELECT f.id, f.date_id, f.status, f.source, s.uniq_id, s.fetch_id, r.kind AS fetch_kind, r.path AS file, s.line_no
FROM mart.f_sales AS f
LEFT JOIN staging.user_orders_log AS s
       ON s.sale_id = f.id AND s.date_id = f.date_id AND f.source = 'report_api'
LEFT JOIN raw.fetch AS r ON r.fetch_id = s.fetch_id;
COMMENT ON VIEW mart.f_sales_lines IS
    'Each row of mart.f_sales with the line it was made from: uniq_id, fetch, file and line number.';
