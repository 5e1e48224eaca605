-- Raw files and their manifests are kept; only their records are deleted.
DROP TABLE staging.price_log, staging.user_activity_log, staging.custom_research, staging.user_orders_log,
    staging.staged_day, staging.quarantine, staging.fetch_day, staging.fetch_reading, raw.fetch, raw.delivery;
DROP SEQUENCE raw.fetch_number;
-- A schema with tables of others is kept.
DO $schemas$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname IN ('staging', 'raw')
        AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_namespace.oid)
    LOOP
        EXECUTE format('DROP SCHEMA %I', name);
    END LOOP;
END
$schemas$;
