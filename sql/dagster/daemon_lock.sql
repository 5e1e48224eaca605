-- The lock of Dagster's daemon, in the database of Dagster's storage. Two numbers: the platform's for this lock, and one
-- for the schema of the storage, since a database may hold several.

-- name: schema
SELECT coalesce(current_schema(), '') AS schema

-- name: lease
-- Have the server end this session, and so release the lock, if its client is silent: a stopped process, a paused machine
-- or a lost network sends nothing, and no FIN either. Keepalives alone would be answered by the kernel or a proxy.
SELECT count(set_config(name, value, false))
FROM (VALUES ('idle_session_timeout',    %(seconds)s || 's'),
             ('tcp_keepalives_idle',     '5'),
             ('tcp_keepalives_interval', '2'),
             ('tcp_keepalives_count',    '3')) AS wanted (name, value)
-- idle_session_timeout exists since PostgreSQL 14.
WHERE current_setting(name, true) IS NOT NULL

-- name: acquire
SELECT pg_try_advisory_lock(7205008, hashtext(%(schema)s)) AS acquired

-- name: sessions
-- Sessions of daemons that hold the lock or stand by, the holder first.
SELECT a.application_name AS name, a.backend_start AS since, l.pid IS NOT NULL AS holds
FROM pg_stat_activity AS a
LEFT JOIN (SELECT pid FROM pg_locks
           WHERE locktype = 'advisory' AND granted AND classid = 7205008 AND objsubid = 2
             AND objid = (hashtext(%(schema)s)::bigint & 4294967295)::oid
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS l USING (pid)
WHERE a.datname = current_database()
  AND (l.pid IS NOT NULL OR starts_with(a.application_name, %(prefix)s))
ORDER BY holds DESC, since

-- name: ping
-- Keep the lease: the server counts idle seconds from here.
SELECT
