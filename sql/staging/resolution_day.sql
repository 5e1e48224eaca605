-- name: record
-- date_ids: distinct days, for their present totals.
WITH total AS (
    SELECT date_id, count(*) AS rows, sum(quantity) AS quantity, sum(amount) AS amount
    FROM mart.f_sales WHERE date_id = ANY (%(date_ids)s) GROUP BY date_id
)
INSERT INTO staging.resolution_day (resolution_id, fetch_id, date_id, rows_before, quantity_before, amount_before)
SELECT n.resolution_id, n.fetch_id, n.date_id, coalesce(t.rows, 0), coalesce(t.quantity, 0), coalesce(t.amount, 0)
FROM unnest(%(resolution_ids)s::bigint[], %(fetch_ids)s::bigint[], %(days)s::integer[])
         AS n (resolution_id, fetch_id, date_id)
LEFT JOIN total AS t USING (date_id)
ON CONFLICT DO NOTHING

-- name: due
-- Days to be loaded because of a resolution, each with its latest resolution. The command loads its days itself; after
-- ten minutes it is assumed to have been killed.
SELECT to_date(d.date_id::text, 'YYYYMMDD')::text AS day, max(d.resolution_id) AS latest
FROM staging.resolution_day AS d
JOIN staging.resolution AS r USING (resolution_id)
WHERE d.loaded_at IS NULL AND (r.via = 'page' OR r.resolved_at < now() - interval '10 minutes')
GROUP BY d.date_id
ORDER BY d.date_id

-- name: start
UPDATE staging.resolution_day SET started_at = clock_timestamp(), run_id = %(run_id)s, failure = NULL
WHERE loaded_at IS NULL AND date_id = ANY (%(date_ids)s)

-- name: open
SELECT DISTINCT d.date_id
FROM staging.resolution_day AS d JOIN raw.fetch AS f USING (fetch_id)
WHERE d.loaded_at IS NULL AND f.file = %(file)s AND d.date_id = ANY (%(date_ids)s)

-- name: finish
-- date_ids: days that are staged and published from their currently selected file. A file of which a row was resolved
-- since it was parsed is not finished.
WITH total AS (
    SELECT date_id, count(*) AS rows, sum(quantity) AS quantity, sum(amount) AS amount
    FROM mart.f_sales WHERE date_id = ANY (%(date_ids)s) GROUP BY date_id
), finished AS (
    SELECT d.resolution_id, d.fetch_id, d.date_id, t.rows, t.quantity, t.amount
    FROM staging.resolution_day AS d
    JOIN raw.fetch AS f USING (fetch_id)
    JOIN staging.fetch_reading AS r USING (fetch_id)
    LEFT JOIN total AS t ON t.date_id = d.date_id
    WHERE d.loaded_at IS NULL AND f.file = %(file)s AND d.date_id = ANY (%(date_ids)s)
      AND NOT EXISTS (SELECT FROM staging.quarantine AS q WHERE q.fetch_id = d.fetch_id AND q.corrected_at > r.read_at)
)
UPDATE staging.resolution_day AS d
SET loaded_at = clock_timestamp(), run_id = %(run_id)s, failure = NULL, rows_after = coalesce(n.rows, 0),
    quantity_after = coalesce(n.quantity, 0), amount_after = coalesce(n.amount, 0)
FROM finished AS n
WHERE (d.resolution_id, d.fetch_id, d.date_id) = (n.resolution_id, n.fetch_id, n.date_id)

-- name: fail
UPDATE staging.resolution_day AS d SET failure = n.reason, run_id = %(run_id)s
FROM unnest(%(date_ids)s::integer[], %(reasons)s::text[]) AS n (date_id, reason)
WHERE d.date_id = n.date_id AND d.loaded_at IS NULL

-- name: of_resolutions
-- Days of resolutions with their progress; before and after are the totals of mart.f_sales.
SELECT d.resolution_id, to_date(d.date_id::text, 'YYYYMMDD') AS day, d.started_at, d.run_id, d.failure, d.loaded_at,
       d.rows_before, d.quantity_before, d.amount_before, d.rows_after, d.quantity_after, d.amount_after,
       CASE WHEN d.loaded_at IS NOT NULL THEN 'loaded' WHEN d.failure IS NOT NULL THEN 'failed'
            WHEN d.started_at IS NOT NULL THEN 'loading' ELSE 'waiting' END AS state
FROM staging.resolution_day AS d
WHERE d.resolution_id = ANY (%(resolution_ids)s)
ORDER BY d.resolution_id DESC, d.date_id
