-- Lock that the process of a run holds in Dagster's database, in a separate session, from before its start to its end.

-- name: limits
-- The server ends the session of a machine that vanished after 25 seconds; by default it would take two hours.
SELECT set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false),
       -- How long the lock of a killed process may remain.
       set_config('lock_timeout', '10s', false)

-- name: take
SELECT pg_advisory_lock(%(key)s)

-- name: ping
-- Notice that the session was lost.
SELECT

-- name: is_held
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory'
      AND objsubid = 1
      AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      -- pg_locks shows the two halves of a key.
      AND (classid::bigint << 32 | objid::bigint) = %(key)s
) AS held
