-- The writers' advisory locks of the warehouse. Each writer requests them in this order:
--
--   7205025            raw files: shared by whole loads, which fetch and parse them; exclusive for `forget`, which
--                      rewrites them
--   7205002            everything: shared by writers of days, exclusive for writers of everything (dimensions from all of
--                      staging) and for versions before 0.2
--   (7205020, day)     a day of the report API's tables: staging, its rows of the mart, and the tables derived from it
--   (7205021, day)     a day of the partner orders' lines and of their rows of the mart
--   7205022            parse results and quarantine, of files that more than one writer may record
--   7205023            names and dimensions
--
-- The first four belong to a session, over several transactions; the days are taken in ascending order, all at once. A
-- holder of days never requests more days. The last two belong to a transaction that takes no further lock: parse results
-- to a short transaction, names to the end of any transaction. So writers can't deadlock.
--
-- Other advisory locks are taken by transactions and sessions that take no second one: 7205001 migrations, 7205003 the relay
-- of the partner orders, 7205006 and 7205007 mailings, (7205010, day) copies to the lake, 7205024 the recording of delivered
-- files. In Dagster's database: (7205008, schema) the daemon, and one per run that a Celery worker executes
-- (dagster/run_lock.sql).

-- name: share_raw_files
SELECT CASE WHEN pg_try_advisory_lock_shared(7205025) THEN false
            ELSE pg_advisory_lock_shared(7205025)::text IS NOT NULL END AS waited

-- name: raw_files
SELECT CASE WHEN pg_try_advisory_lock(7205025) THEN false
            ELSE pg_advisory_lock(7205025)::text IS NOT NULL END AS waited

-- name: share_everything
-- Returns whether it had to wait. A shared request queues behind an exclusive one that waits.
SELECT CASE WHEN pg_try_advisory_lock_shared(7205002) THEN false
            ELSE pg_advisory_lock_shared(7205002)::text IS NOT NULL END AS waited

-- name: everything
SELECT CASE WHEN pg_try_advisory_lock(7205002) THEN false
            ELSE pg_advisory_lock(7205002)::text IS NOT NULL END AS waited

-- name: days
-- OFFSET 0 keeps the subquery apart, so that the locks are taken in the order of its rows.
SELECT coalesce(bool_or(CASE WHEN pg_try_advisory_lock(%(kind)s, date_id) THEN false
                             ELSE pg_advisory_lock(%(kind)s, date_id)::text IS NOT NULL END), false) AS waited
FROM (SELECT DISTINCT date_id FROM unnest(%(date_ids)s::integer[]) AS d (date_id) ORDER BY date_id OFFSET 0) AS ascending

-- name: parse_results
SELECT pg_advisory_xact_lock(7205022)

-- name: names
SELECT pg_advisory_xact_lock(7205023)
