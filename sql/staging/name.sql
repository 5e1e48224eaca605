-- Store names of order rows in staging.name and the dimensions; a name of one part is in `first`.

-- name: create
CREATE TEMP TABLE named (
    dimension  text NOT NULL,
    id         integer NOT NULL,
    first      text,
    second     text,
    first_seen text,           -- event times in one form, YYYY-MM-DDTHH:MM:SS without zone
    last_seen  text,
    last_line  bigint
) ON COMMIT DROP

-- name: copy
COPY named (dimension, id, first, second, first_seen, last_seen, last_line) FROM STDIN (FORMAT binary)

-- name: erase
-- The names of erased customers become empty, as if the file had none: one row per customer. Runs under the lock of names,
-- so that it includes names that a load parsed before their customer was erased.
WITH gone AS (
    DELETE FROM named
    WHERE dimension = 'd_customer' AND id IN (SELECT customer_id FROM staging.erased_customer)
    RETURNING *
)
INSERT INTO named (dimension, id, first, second, first_seen, last_seen, last_line)
SELECT dimension, id, '', '', min(first_seen), max(last_seen),
       (array_agg(last_line ORDER BY last_seen DESC, last_line DESC))[1]
FROM gone
GROUP BY dimension, id

-- name: remember
-- Of two names with the same event time, that of the later load wins; within a load, that of the later line.
INSERT INTO staging.name AS n (dimension, id, first, second, first_seen, last_seen, last_line, loaded_at, stored_at)
SELECT dimension, id, first, second, first_seen::timestamp, last_seen::timestamp, last_line, now(), now() FROM named
ON CONFLICT (dimension, id, (md5(md5(first) || second)::uuid)) DO UPDATE
SET first_seen = least(n.first_seen, EXCLUDED.first_seen),
    last_seen = greatest(n.last_seen, EXCLUDED.last_seen),
    last_line = CASE WHEN EXCLUDED.last_seen >= n.last_seen THEN EXCLUDED.last_line ELSE n.last_line END,
    loaded_at = CASE WHEN EXCLUDED.last_seen >= n.last_seen THEN EXCLUDED.loaded_at ELSE n.loaded_at END,
    stored_at = EXCLUDED.stored_at

-- name: reset_planner
-- Undo the planner settings of `avoid_full_scans`, before the transaction writes names.
SELECT count(set_config(name, reset_val, true)) FROM pg_settings
WHERE name IN ('enable_seqscan', 'enable_sort', 'max_parallel_workers_per_gather')

-- name: stored_at
SELECT now() AS stored_at

-- name: forget
-- Delete names that occur only on replaced days and are not used by the new rows.
DELETE FROM staging.name
WHERE stored_at < %(stored_at)s
  AND to_char(first_seen, 'YYYYMMDD')::integer = ANY (%(date_ids)s)
  AND (SELECT count(*) FROM unnest(%(date_ids)s::integer[]) AS replaced (date_id)
       WHERE to_date(replaced.date_id::text, 'YYYYMMDD') BETWEEN first_seen::date AND last_seen::date)
      = last_seen::date - first_seen::date + 1

-- name: from_staging
-- The cities, customers and items of some days; their names are in staging.name.
INSERT INTO named (dimension, id)
SELECT DISTINCT key.dimension, key.id
FROM staging.user_orders_log AS l
CROSS JOIN LATERAL (VALUES ('d_city', city_id), ('d_customer', customer_id), ('d_item', item_id)) AS key (dimension, id)
WHERE l.date_id = ANY (%(date_ids)s)

-- name: drop
DROP TABLE named
