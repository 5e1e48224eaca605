-- Back to the columns of before. Refunded rows stay, negative, so sums remain net. The date index, the exact number
-- types and the type text of an adopted column stay as well: they harm no reader.
DROP VIEW mart.f_sales_lines;
DO $columns$
DECLARE
    wanted  text;
    adopted record;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['source', 'status'] LOOP
        adopted := NULL;
        -- A warehouse that an earlier version brought to 0004 adopted nothing.
        IF to_regclass('ops.adopted_column') IS NOT NULL THEN
            SELECT * INTO adopted FROM ops.adopted_column WHERE column_name = wanted;
        END IF;
        IF adopted IS NULL THEN
            EXECUTE format('ALTER TABLE mart.f_sales DROP COLUMN %I', wanted);
            CONTINUE;
        END IF;
        EXECUTE format('ALTER TABLE mart.f_sales DROP CONSTRAINT %I, ALTER COLUMN %I %s', 'f_sales_' || wanted, wanted,
                       coalesce('SET DEFAULT ' || adopted.former_default, 'DROP DEFAULT'));
        IF adopted.is_nullable THEN
            EXECUTE format('ALTER TABLE mart.f_sales ALTER COLUMN %I DROP NOT NULL', wanted);
        END IF;
    END LOOP;
END
$columns$;
DROP TABLE IF EXISTS ops.adopted_column;
DO $restore$
DECLARE
    former record;
BEGIN
    FOR former IN SELECT statement FROM ops.dropped_foreign_key LOOP
        EXECUTE former.statement;
    END LOOP;
END
$restore$;
DROP TABLE ops.dropped_foreign_key;
-- The mart's rows no longer have their source: mark days as not staged, so that the next load replaces them.
TRUNCATE staging.staged_day, staging.user_orders_log;
ALTER TABLE staging.user_orders_log ALTER COLUMN sale_id DROP DEFAULT;
