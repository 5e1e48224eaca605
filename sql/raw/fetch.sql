-- name: keep
-- The number is drawn here, when the file lies whole on disk: "later" means delivered later.
INSERT INTO raw.fetch (fetch_id, delivery_id, file, kind, first_day, last_day, url, path, sha256, bytes, line_count,
                       etag, last_modified, fetched_at)
VALUES (nextval('raw.fetch_number'), %(delivery_id)s, %(file)s, %(kind)s, %(first_day)s, %(last_day)s, %(url)s,
        %(path)s, %(sha256)s, %(bytes)s, %(line_count)s, %(etag)s, %(last_modified)s, %(fetched_at)s)
RETURNING fetch_id

-- name: latest_contents
-- What storage said of the newest kept file of each day's increment, for the sensor's comparison. A file that was
-- fetched and never read, because the load died in between, is news.
SELECT DISTINCT ON (first_day, file) first_day AS day, file, sha256, etag, last_modified
FROM raw.fetch
JOIN staging.fetch_reading USING (fetch_id)
WHERE kind = 'increment' AND first_day BETWEEN %(first_day)s AND %(last_day)s
ORDER BY first_day, file, fetch_id DESC
