-- name: newest
SELECT path, sha256 FROM raw.fetch ORDER BY fetch_id DESC LIMIT 1

-- name: an_older_one
SELECT path, sha256 FROM raw.fetch WHERE path <> %(newest)s ORDER BY random() LIMIT 1
