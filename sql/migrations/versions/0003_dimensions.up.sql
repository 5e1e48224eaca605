-- Dimension rows are made by the transaction that loads a day and are never deleted. A warehouse that already has
-- tables of these names keeps them: they get the missing columns, text instead of varchar(n) (names outgrow it), a
-- unique key, and no NOT NULL on columns that the loader does not fill.
CREATE TABLE IF NOT EXISTS mart.d_calendar (date_id integer PRIMARY KEY);
CREATE TABLE IF NOT EXISTS mart.d_city     (city_id integer PRIMARY KEY);
CREATE TABLE IF NOT EXISTS mart.d_customer (customer_id integer PRIMARY KEY);
CREATE TABLE IF NOT EXISTS mart.d_item     (item_id integer PRIMARY KEY);

ALTER TABLE mart.d_calendar
    ADD COLUMN IF NOT EXISTS date_actual  date,
    ADD COLUMN IF NOT EXISTS year_num     integer,
    ADD COLUMN IF NOT EXISTS quarter_num  integer,
    ADD COLUMN IF NOT EXISTS month_num    integer,
    ADD COLUMN IF NOT EXISTS month_name   text,
    ADD COLUMN IF NOT EXISTS day_num      integer,
    ADD COLUMN IF NOT EXISTS day_of_week  integer,   -- ISO: Monday is 1
    ADD COLUMN IF NOT EXISTS iso_year     integer,
    ADD COLUMN IF NOT EXISTS iso_week     integer;
-- name_as_of: event time of the line that the name was taken from; the latest wins.
ALTER TABLE mart.d_city
    ADD COLUMN IF NOT EXISTS city_name  text,
    ADD COLUMN IF NOT EXISTS name_as_of timestamp;
ALTER TABLE mart.d_customer
    ADD COLUMN IF NOT EXISTS first_name text,
    ADD COLUMN IF NOT EXISTS last_name  text,
    ADD COLUMN IF NOT EXISTS name_as_of timestamp;
ALTER TABLE mart.d_item
    ADD COLUMN IF NOT EXISTS item_name  text,
    ADD COLUMN IF NOT EXISTS name_as_of timestamp;

DO $adopt$
DECLARE
    dimension record;
    col       record;
BEGIN
    FOR dimension IN
        SELECT * FROM (VALUES
            ('mart.d_calendar'::regclass, 'date_id', ARRAY['date_id', 'date_actual', 'year_num', 'quarter_num',
                'month_num', 'month_name', 'day_num', 'day_of_week', 'iso_year', 'iso_week']),
            ('mart.d_city'::regclass, 'city_id', ARRAY['city_id', 'city_name', 'name_as_of']),
            ('mart.d_customer'::regclass, 'customer_id', ARRAY['customer_id', 'first_name', 'last_name', 'name_as_of']),
            ('mart.d_item'::regclass, 'item_id', ARRAY['item_id', 'item_name', 'name_as_of'])
        ) AS d (relation, key, filled)
    LOOP
        IF NOT EXISTS (
            SELECT FROM pg_index
            WHERE indrelid = dimension.relation AND indisunique AND indpred IS NULL AND indnkeyatts = 1
              AND indkey[0] = (SELECT attnum FROM pg_attribute
                               WHERE attrelid = dimension.relation AND attname = dimension.key))
        THEN
            EXECUTE format('CREATE UNIQUE INDEX ON %s (%I)', dimension.relation, dimension.key);
        END IF;
        FOR col IN
            SELECT attname, atttypid, attnotnull, atthasdef, attidentity FROM pg_attribute
            WHERE attrelid = dimension.relation AND attnum > 0 AND NOT attisdropped
        LOOP
            IF col.attname = ANY (dimension.filled) THEN
                IF col.atttypid = 'varchar'::regtype THEN
                    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE text', dimension.relation, col.attname);
                END IF;
            ELSIF col.attnotnull AND NOT col.atthasdef AND col.attidentity = '' THEN
                EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', dimension.relation, col.attname);
            END IF;
        END LOOP;
    END LOOP;
END
$adopt$;
