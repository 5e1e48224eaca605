-- name: candidates
-- Every kept fetch that covers a day, best first; the order is the rule of choice (day-rules, "Choice"): a header
-- with status before one without, then an increment before a report, then the later fetch number.
SELECT to_char(d.day, 'YYYYMMDD')::integer AS date_id, f.fetch_id, f.kind, f.path, f.first_day, f.last_day,
       f.fetched_at, r.verdict, r.reason, coalesce(r.has_status, false) AS has_status, r.revision,
       row_number() OVER (PARTITION BY d.day ORDER BY (r.verdict = 'usable') IS TRUE DESC, r.has_status DESC,
                                                      f.kind = 'increment' DESC, f.fetch_id DESC) AS place
FROM unnest(%(days)s::date[]) AS d (day)
JOIN raw.fetch AS f ON f.file = %(file)s AND d.day BETWEEN f.first_day AND f.last_day
LEFT JOIN staging.fetch_reading AS r USING (fetch_id)
ORDER BY date_id, place

-- name: choose
-- The first of the candidates for each day, where it is not what staging holds already.
SELECT to_char(d.day, 'YYYYMMDD')::integer AS date_id, c.fetch_id, c.revision, s.file IS NOT NULL AS staged
FROM unnest(%(days)s::date[]) AS d (day)
CROSS JOIN LATERAL (
    SELECT f.fetch_id, r.revision
    FROM raw.fetch AS f
    JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE f.file = %(file)s AND d.day BETWEEN f.first_day AND f.last_day AND r.verdict = 'usable'
    ORDER BY r.has_status DESC, f.kind = 'increment' DESC, f.fetch_id DESC
    LIMIT 1
) AS c
LEFT JOIN staging.staged_day AS s ON s.file = %(file)s AND s.date_id = to_char(d.day, 'YYYYMMDD')::integer
WHERE (s.fetch_id, s.revision) IS DISTINCT FROM (c.fetch_id, c.revision)
ORDER BY date_id

-- name: record
INSERT INTO staging.staged_day AS s (file, date_id, fetch_id, revision, rows, run_id)
SELECT %(file)s, n.date_id, n.fetch_id, n.revision, n.rows, %(run_id)s
FROM unnest(%(date_ids)s::integer[], %(fetch_ids)s::bigint[], %(revisions)s::integer[], %(rows)s::bigint[])
         AS n (date_id, fetch_id, revision, rows)
ON CONFLICT (file, date_id) DO UPDATE
SET former_rows = s.rows, fetch_id = EXCLUDED.fetch_id, revision = EXCLUDED.revision, rows = EXCLUDED.rows,
    staged_at = now(), run_id = EXCLUDED.run_id

-- name: faults
-- Days whose newest delivery can't be used: the increment's file, or, where no increment serves, the report's.
SELECT d.day, coalesce(i.reason, p.reason) AS reason
FROM unnest(%(days)s::date[]) AS d (day)
LEFT JOIN LATERAL (
    SELECT delivery_id FROM raw.delivery
    WHERE kind = 'increment' AND first_day = d.day AND outcome <> 'failed'
    ORDER BY delivery_id DESC LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT r.reason FROM raw.fetch AS f JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE f.delivery_id = newest.delivery_id AND f.file = %(file)s AND r.verdict = 'failed'
) AS i ON true
LEFT JOIN LATERAL (
    SELECT r.verdict, r.reason FROM raw.fetch AS f JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE f.file = %(file)s AND f.kind = 'report' AND d.day BETWEEN f.first_day AND f.last_day
    ORDER BY f.fetch_id DESC LIMIT 1
) AS p ON p.verdict = 'failed' AND NOT EXISTS (
    SELECT FROM raw.fetch AS f JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE f.file = %(file)s AND f.kind = 'increment' AND f.first_day = d.day AND r.verdict = 'usable')
WHERE coalesce(i.reason, p.reason) IS NOT NULL

-- name: summary
-- What each asked day consists of, for the metadata.
SELECT s.date_id, s.fetch_id, s.rows, f.kind, f.path, coalesce(d.repeats, 0) AS repeats, coalesce(d.bad, 0) AS bad
FROM staging.staged_day AS s
JOIN raw.fetch AS f USING (fetch_id)
LEFT JOIN staging.fetch_day AS d USING (fetch_id, date_id)
WHERE s.file = %(file)s AND s.date_id = ANY (%(date_ids)s)
