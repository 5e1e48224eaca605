-- Deleted rows stay in a table's file, and values in the planner's statistics, until they are overwritten. These statements
-- run one by one, outside a transaction; each locks its table.

-- name: patience
SET lock_timeout = '30s'

-- name: vacuum_name
VACUUM (FULL, ANALYZE) staging.name

-- name: vacuum_quarantine
VACUUM (FULL, ANALYZE) staging.quarantine

-- name: vacuum_readings
VACUUM (FULL, ANALYZE) staging.fetch_reading

-- name: vacuum_resolution
VACUUM (FULL, ANALYZE) staging.resolution

-- name: vacuum_customers
VACUUM (FULL, ANALYZE) mart.d_customer

-- name: vacuum_mappings
VACUUM (FULL, ANALYZE) staging.partner_customer

-- name: vacuum_events
VACUUM (FULL, ANALYZE) staging.partner_order_event

-- name: vacuum_orders
VACUUM (FULL, ANALYZE) orders.partner_order

-- name: vacuum_clients
VACUUM (FULL, ANALYZE) mailings.client

-- name: vacuum_suppressions
VACUUM (FULL, ANALYZE) mailings.suppression

-- name: wal_statistics
-- From here on for the embedded server, whose files and write-ahead log are the platform's own.
VACUUM FULL pg_catalog.pg_statistic

-- name: wal_no_recycling
ALTER SYSTEM SET wal_recycle = off

-- name: wal_reload
SELECT pg_reload_conf()

-- name: wal_advance
-- Segments after the current one are old ones that were kept for later use, contents included. A switch fills the rest of a
-- segment with zeros; it needs a record before it.
DO $$ BEGIN
    FOR _ IN 0 .. (SELECT count(*) FROM pg_ls_waldir()
                   WHERE name ~ '^[0-9A-F]{24}$' AND name > pg_walfile_name(pg_current_wal_insert_lsn())) LOOP
        PERFORM pg_logical_emit_message(false, 'sales_assets forget', '');
        PERFORM pg_switch_wal();
    END LOOP;
END $$

-- name: wal_checkpoint
-- Deletes the segments before it.
CHECKPOINT

-- name: wal_kept
-- Segments before or after the current one. The checkpointer reads the setting when the signal reaches it; with the former
-- setting, it has kept the old segments for later use.
SELECT count(*) AS segments FROM pg_ls_waldir()
WHERE name ~ '^[0-9A-F]{24}$' AND name <> pg_walfile_name(pg_current_wal_insert_lsn())

-- name: wal_recycling
ALTER SYSTEM RESET wal_recycle

-- name: wal_reload_again
SELECT pg_reload_conf()
