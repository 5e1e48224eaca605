-- Statements of the session that writes to the lake: it holds the locks, and commits to the catalog.

-- name: use_catalog
-- PyIceberg names the tables of its catalog without a schema.
SELECT set_config('search_path', 'lake', false)

-- name: lock
-- One lock per day, by YYYYMMDD, in ascending order, so that writers can't deadlock. 0 is the lock of the dimensions.
SELECT pg_advisory_lock(%(space)s, key) FROM unnest(%(keys)s::integer[]) AS key

-- name: unlock
SELECT pg_advisory_unlock(%(space)s, key) FROM unnest(%(keys)s::integer[]) AS key

-- name: use_one_snapshot
-- Rows and sums must use one snapshot, since days are loaded concurrently.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: locations
-- The current metadata of each table, for engines that read no SQL catalog.
SELECT table_name, metadata_location FROM lake.iceberg_tables
WHERE (catalog_name, table_namespace) = ('sales_assets', 'lake')
