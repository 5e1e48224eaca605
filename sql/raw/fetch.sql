-- name: keep
-- The numbers are drawn here, when the files lie whole on disk: "later" means delivered later.
INSERT INTO raw.fetch (fetch_id, delivery_id, file, kind, first_day, last_day, url, path, sha256, bytes, line_count,
                       etag, last_modified, fetched_at)
SELECT nextval('raw.fetch_number'), f.*
FROM jsonb_to_recordset(%(files)s) AS f (delivery_id bigint, file text, kind text, first_day date, last_day date,
     url text, path text, sha256 text, bytes bigint, line_count bigint, etag text, last_modified text,
     fetched_at timestamptz)
RETURNING delivery_id, file, fetch_id

-- name: latest_contents
-- What storage said of the newest kept file of each day's increment, for the sensor's comparison. A file that was
-- fetched and never read, because the load died in between, is news.
SELECT DISTINCT ON (first_day, file) first_day AS day, file, sha256, etag, last_modified
FROM raw.fetch
JOIN staging.fetch_reading USING (fetch_id)
WHERE kind = 'increment' AND first_day BETWEEN %(first_day)s AND %(last_day)s
ORDER BY first_day, file, fetch_id DESC
