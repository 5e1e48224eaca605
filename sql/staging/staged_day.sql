-- name: candidates
-- Raw files that cover a day, best first, by the only implementation of docs/data-contracts/day-rules.md ("Selection"): a
-- header with status before one without, then an increment before a report, then the latest delivery.
-- every: return all files; otherwise only the best file of each day, if it is usable and not staged already.
SELECT *
FROM (
    SELECT to_char(d.day, 'YYYYMMDD')::integer AS date_id, f.fetch_id, f.kind, f.path, f.first_day, f.last_day,
           f.fetched_at, n.number, r.verdict, r.reason, coalesce(r.has_status, false) AS has_status, r.revision,
           row_number() OVER (PARTITION BY d.day ORDER BY (r.verdict = 'usable') IS TRUE DESC, r.has_status DESC,
                                                          f.kind = 'increment' DESC, n.number DESC) AS place
    FROM unnest(%(days)s::date[]) AS d (day)
    JOIN raw.fetch AS f ON f.file = %(file)s AND d.day BETWEEN f.first_day AND f.last_day
    CROSS JOIN LATERAL (
        SELECT coalesce(max(number), f.fetch_id) AS number FROM raw.file_delivery AS e WHERE e.fetch_id = f.fetch_id
    ) AS n
    LEFT JOIN staging.fetch_reading AS r USING (fetch_id)
) AS c
LEFT JOIN LATERAL (
    SELECT s.fetch_id AS staged_fetch_id, s.revision AS staged_revision, true AS is_staged
    FROM staging.staged_day AS s
    WHERE s.file = %(file)s AND s.date_id = c.date_id
) AS s ON true
WHERE %(every)s
   OR (place = 1 AND verdict = 'usable' AND (fetch_id, revision) IS DISTINCT FROM (staged_fetch_id, staged_revision))
ORDER BY date_id, place

-- name: record
INSERT INTO staging.staged_day AS s (file, date_id, fetch_id, revision, rows, run_id)
SELECT %(file)s, n.date_id, n.fetch_id, n.revision, n.rows, %(run_id)s
FROM unnest(%(date_ids)s::integer[], %(fetch_ids)s::bigint[], %(revisions)s::integer[], %(rows)s::bigint[])
         AS n (date_id, fetch_id, revision, rows)
ON CONFLICT (file, date_id) DO UPDATE
SET former_rows = s.rows, fetch_id = EXCLUDED.fetch_id, revision = EXCLUDED.revision, rows = EXCLUDED.rows,
    staged_at = now(), run_id = EXCLUDED.run_id

-- name: other_days
-- Returns a row if other days of the file are staged.
SELECT date_id FROM staging.staged_day WHERE file = %(file)s AND date_id <> ALL (%(date_ids)s) LIMIT 1

-- name: faults
-- Find days whose newest file can't be used: that of the increment, or of the report for a day without increment.
SELECT d.day, coalesce(i.reason, p.reason) AS reason
FROM unnest(%(days)s::date[]) AS d (day)
LEFT JOIN LATERAL (
    SELECT delivery_id FROM raw.delivery
    WHERE kind = 'increment' AND first_day = d.day AND outcome <> 'failed'
    ORDER BY delivery_id DESC LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT r.reason
    FROM raw.file_delivery AS e JOIN raw.fetch AS f USING (fetch_id) JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE e.delivery_id = newest.delivery_id AND f.file = %(file)s AND r.verdict = 'failed'
) AS i ON true
LEFT JOIN LATERAL (
    SELECT r.verdict, r.reason
    FROM raw.file_delivery AS e JOIN raw.fetch AS f USING (fetch_id) JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE f.file = %(file)s AND f.kind = 'report' AND d.day BETWEEN f.first_day AND f.last_day
    ORDER BY e.number DESC LIMIT 1
) AS p ON p.verdict = 'failed' AND NOT EXISTS (
    SELECT FROM raw.fetch AS f JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE f.file = %(file)s AND f.kind = 'increment' AND f.first_day = d.day AND r.verdict = 'usable')
WHERE coalesce(i.reason, p.reason) IS NOT NULL

-- name: summary
-- The selected file and counts of each day, for the metadata.
SELECT s.date_id, s.fetch_id, s.rows, f.kind, f.path, coalesce(d.repeats, 0) AS repeats, coalesce(d.bad, 0) AS bad
FROM staging.staged_day AS s
JOIN raw.fetch AS f USING (fetch_id)
LEFT JOIN staging.fetch_day AS d USING (fetch_id, date_id)
WHERE s.file = %(file)s AND s.date_id = ANY (%(date_ids)s)
