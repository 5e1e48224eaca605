-- Statements of `sales-assets backup` and `restore`, for the warehouse and for Dagster's storage.

-- name: snapshot
-- Export the snapshot of this transaction, for pg_dump. The session is idle while pg_dump works, which may take longer than
-- the server's timeout.
SELECT set_config('idle_in_transaction_session_timeout', '0', true), pg_export_snapshot() AS id

-- name: tables
-- All tables with rows of the database's user. The rows of the lake's catalog are not part of a backup.
SELECT n.nspname AS schema, c.relname AS name
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND (n.nspname, c.relname) <> ('lake', 'iceberg_tables')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1, 2

-- name: roles
-- Roles to which privileges in this database were granted.
SELECT DISTINCT r.rolname AS name
FROM pg_shdepend AS d
JOIN pg_roles AS r ON r.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'a'
  AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1

-- name: missing_roles
SELECT name FROM unnest(%(names)s::text[]) AS name WHERE to_regrole(quote_ident(name)) IS NULL ORDER BY 1

-- name: raw_files
SELECT DISTINCT path, sha256 FROM raw.fetch ORDER BY path

-- name: repeated
-- Count the events and messages that the services of a restored warehouse publish or send, perhaps for a second time.
SELECT (SELECT count(*) FROM orders.outbox WHERE published_at IS NULL) AS events,
       (SELECT count(*) FROM mailings.message WHERE status = 'Pending')
       + (SELECT count(*) FROM mailings.mailing WHERE state = 'scheduled' AND deleted_at IS NULL) AS messages
