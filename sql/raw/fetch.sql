-- name: contents
-- Contents stored for files of one kind, by hash; the latest fetch of contents that were stored several times.
SELECT DISTINCT ON (first_day, last_day, file, sha256) first_day, last_day, file, sha256, path
FROM raw.fetch
WHERE kind = %(kind)s AND first_day BETWEEN %(first_day)s AND %(last_day)s
ORDER BY first_day, last_day, file, sha256, fetch_id DESC

-- name: lock
-- Serialize recording until the commit: of two loaders with the same contents, the second must see the first.
SELECT pg_advisory_xact_lock(7205024)

-- name: record
-- Record contents that are new for their day (or period), kind and file. Numbers are drawn here, once the files are
-- completely stored, so that a greater number means a later delivery.
INSERT INTO raw.fetch (fetch_id, delivery_id, file, kind, first_day, last_day, url, path, sha256, bytes, line_count,
                       etag, last_modified, fetched_at)
SELECT nextval('raw.fetch_number'), n.*
FROM (
    SELECT DISTINCT ON (d.file, d.kind, d.first_day, d.last_day, d.sha256) d.*
    FROM jsonb_to_recordset(%(files)s) AS d (delivery_id bigint, file text, kind text, first_day date, last_day date,
         url text, path text, sha256 text, bytes bigint, line_count bigint, etag text, last_modified text,
         fetched_at timestamptz)
    ORDER BY d.file, d.kind, d.first_day, d.last_day, d.sha256, d.delivery_id
) AS n
WHERE NOT EXISTS (SELECT FROM raw.fetch AS f
                  WHERE (f.file, f.kind, f.first_day, f.last_day, f.sha256)
                      = (n.file, n.kind, n.first_day, n.last_day, n.sha256))
ORDER BY n.delivery_id

-- name: record_deliveries
-- Record every delivered file with the fetch of its contents. The first delivery of a fetch has the fetch's number.
INSERT INTO raw.file_delivery (number, delivery_id, fetch_id, url, etag, last_modified, delivered_at)
SELECT CASE WHEN n.is_first THEN n.fetch_id ELSE nextval('raw.fetch_number') END, n.delivery_id, n.fetch_id, n.url,
       n.etag, n.last_modified, n.fetched_at
FROM (
    SELECT d.*, f.fetch_id,
           row_number() OVER (PARTITION BY f.fetch_id ORDER BY d.delivery_id) = 1
           AND NOT EXISTS (SELECT FROM raw.file_delivery AS e WHERE e.fetch_id = f.fetch_id) AS is_first
    FROM jsonb_to_recordset(%(files)s) AS d (delivery_id bigint, file text, kind text, first_day date, last_day date,
         url text, sha256 text, etag text, last_modified text, fetched_at timestamptz)
    CROSS JOIN LATERAL (
        SELECT max(fetch_id) AS fetch_id FROM raw.fetch AS f
        WHERE (f.file, f.kind, f.first_day, f.last_day, f.sha256) = (d.file, d.kind, d.first_day, d.last_day, d.sha256)
    ) AS f
) AS n
ORDER BY n.delivery_id, n.fetch_id
RETURNING number, delivery_id, fetch_id, (SELECT file FROM raw.fetch AS f WHERE f.fetch_id = file_delivery.fetch_id)

-- name: latest_contents
-- The latest contents of each day's increment, their ETags and modification times, for comparison by the sensor.
SELECT l.day, l.file, l.sha256, e.etags, e.last_modified
FROM (
    SELECT DISTINCT ON (f.first_day, f.file) f.first_day AS day, f.file, f.sha256
    FROM raw.fetch AS f
    JOIN raw.file_delivery AS d USING (fetch_id)
    WHERE f.kind = 'increment' AND f.first_day BETWEEN %(first_day)s AND %(last_day)s
    ORDER BY f.first_day, f.file, d.number DESC
) AS l
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(DISTINCT d.etag) FILTER (WHERE d.etag IS NOT NULL), '{}') AS etags,
           coalesce(array_agg(DISTINCT d.last_modified) FILTER (WHERE d.last_modified IS NOT NULL), '{}')
               AS last_modified
    FROM raw.fetch AS f
    JOIN raw.file_delivery AS d USING (fetch_id)
    WHERE f.kind = 'increment' AND (f.first_day, f.file, f.sha256) = (l.day, l.file, l.sha256)
) AS e
