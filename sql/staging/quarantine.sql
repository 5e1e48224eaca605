-- name: list
SELECT q.quarantine_id, q.state, f.file, f.kind, q.date_id, q.fetch_id, f.path, q.line_no, q.reason, q.line_text
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
WHERE (%(all_states)s OR q.state = 'open')
  AND (%(day)s::date IS NULL OR q.date_id = %(date_id)s OR (q.date_id IS NULL AND f.first_day = %(day)s))
ORDER BY q.quarantine_id
LIMIT %(limit)s

-- name: count_open
SELECT count(*) AS lines FROM staging.quarantine WHERE state = 'open'

-- name: show
SELECT q.*, f.file, f.kind, f.first_day, f.last_day, f.path, f.url, f.fetched_at, r.verdict
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
JOIN staging.fetch_reading AS r USING (fetch_id)
WHERE q.quarantine_id = ANY (%(ids)s)
ORDER BY q.quarantine_id

-- name: correct
UPDATE staging.quarantine
SET state = 'corrected', corrected_text = %(text)s, corrected_at = clock_timestamp()
WHERE quarantine_id = %(id)s

-- name: discard
UPDATE staging.quarantine SET state = 'discarded', corrected_at = clock_timestamp() WHERE quarantine_id = %(id)s

-- name: touch
-- Read the line again as it is: after an upgrade a rule may forgive more.
UPDATE staging.quarantine SET corrected_at = clock_timestamp() WHERE quarantine_id = ANY (%(ids)s)

-- name: states
SELECT quarantine_id, state, reason FROM staging.quarantine WHERE quarantine_id = ANY (%(ids)s) ORDER BY quarantine_id
