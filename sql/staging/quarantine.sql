-- name: list
-- state: NULL for all. reason: a LIKE pattern.
SELECT q.quarantine_id, q.state, f.file, f.kind, q.date_id, q.fetch_id, f.path, q.line_no, q.reason, q.line_text,
       q.inherited_from, q.corrected_at
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
WHERE (%(state)s::text IS NULL OR q.state = %(state)s)
  -- Rows of the day; all rows of a file that was delivered for it; rows without a parsable day of a report that covers
  -- it.
  AND (%(day)s::date IS NULL OR q.date_id = %(date_id)s OR (f.kind = 'increment' AND f.first_day = %(day)s)
       OR (q.date_id IS NULL AND %(day)s BETWEEN f.first_day AND f.last_day))
  AND (%(file)s::text IS NULL OR f.file = %(file)s)
  AND (%(reason)s::text IS NULL OR q.reason ILIKE %(reason)s)
ORDER BY q.quarantine_id
LIMIT %(limit)s OFFSET %(offset)s

-- name: reasons
-- Count rejected rows by reason, without the values in it; filtered like `list`, except by reason. `matching` counts the
-- rows with the searched reason.
SELECT regexp_replace(q.reason, '''[^'']*''|[0-9]+', '…', 'g') AS reason, count(*) AS rows,
       count(*) FILTER (WHERE %(reason)s::text IS NULL OR q.reason ILIKE %(reason)s) AS matching
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
WHERE (%(state)s::text IS NULL OR q.state = %(state)s)
  AND (%(day)s::date IS NULL OR q.date_id = %(date_id)s OR (f.kind = 'increment' AND f.first_day = %(day)s)
       OR (q.date_id IS NULL AND %(day)s BETWEEN f.first_day AND f.last_day))
  AND (%(file)s::text IS NULL OR f.file = %(file)s)
GROUP BY 1
ORDER BY rows DESC, 1

-- name: around
-- Other rejected rows of a file near a line.
SELECT quarantine_id, line_no, state, reason, line_text
FROM staging.quarantine
WHERE fetch_id = %(fetch_id)s AND line_no BETWEEN %(first_line)s AND %(last_line)s
ORDER BY line_no

-- name: count_open
SELECT count(*) AS lines FROM staging.quarantine WHERE state = 'open'

-- name: show
SELECT q.*, f.file, f.kind, f.first_day, f.last_day, f.path, f.url, f.fetched_at, r.verdict, r.header
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
JOIN staging.fetch_reading AS r USING (fetch_id)
WHERE q.quarantine_id = ANY (%(ids)s)
ORDER BY q.quarantine_id

-- name: correct
UPDATE staging.quarantine AS q
SET state = 'corrected', corrected_text = n.text, corrected_at = clock_timestamp(), inherited_from = NULL
FROM unnest(%(ids)s::bigint[], %(texts)s::text[]) AS n (id, text)
WHERE q.quarantine_id = n.id

-- name: discard
UPDATE staging.quarantine
SET state = 'discarded', corrected_at = clock_timestamp(), inherited_from = NULL
WHERE quarantine_id = ANY (%(ids)s)

-- name: reopen
-- Undo a resolution: the row is rejected again as delivered, unless the rules have become more lenient.
UPDATE staging.quarantine
SET state = 'open', corrected_text = NULL, corrected_at = clock_timestamp(), inherited_from = NULL
WHERE quarantine_id = ANY (%(ids)s)

-- name: inherit
-- Apply the latest resolution of a rejected row to identical rows of other contents. Identical means: same file, text,
-- day, and occurrence of the text in the contents. A row of an unknown day, or of a day outside its contents' period, is
-- identical only in contents of the same day or period: "Milk,dear" in the price lists of two days are two rows.
-- fetch_ids, ids: the rows to consider, together with their identical ones. reopened: rows that were reopened just now;
-- their identical rows are reopened too, because otherwise their resolution would be inherited again.
WITH identified AS (
    SELECT q.quarantine_id, q.fetch_id, q.state = 'discarded' AS is_discarded,
           CASE WHEN q.state <> 'discarded' THEN q.corrected_text END AS text,
           q.state = 'discarded' OR q.corrected_text IS NOT NULL OR q.quarantine_id = ANY (%(reopened)s) AS is_resolved,
           q.corrected_at, q.inherited_from, f.file, q.line_text,
           CASE WHEN q.date_id BETWEEN to_char(f.first_day, 'YYYYMMDD')::integer
                                   AND to_char(f.last_day, 'YYYYMMDD')::integer THEN q.date_id::text
                ELSE concat_ws(' ', f.kind, f.first_day, f.last_day, q.date_id) END AS day,
           row_number() OVER (PARTITION BY q.fetch_id, q.line_text ORDER BY q.line_no) AS occurrence
    FROM (
        SELECT DISTINCT line_text FROM staging.quarantine AS t
        WHERE (fetch_id = ANY (%(fetch_ids)s) OR quarantine_id = ANY (%(ids)s))
          AND EXISTS (SELECT FROM staging.quarantine AS s
                      WHERE hashtextextended(s.line_text, 0) = hashtextextended(t.line_text, 0)
                        AND s.line_text = t.line_text AND (s.state = 'discarded' OR s.corrected_text IS NOT NULL))
    ) AS looked_at
    JOIN staging.quarantine AS q ON hashtextextended(q.line_text, 0) = hashtextextended(looked_at.line_text, 0)
                                AND q.line_text = looked_at.line_text
    JOIN raw.fetch AS f ON f.fetch_id = q.fetch_id
), resolved AS (
    SELECT DISTINCT ON (file, line_text, day, occurrence)
           file, line_text, day, occurrence, is_discarded, text, coalesce(inherited_from, quarantine_id) AS origin
    FROM identified
    WHERE is_resolved
    ORDER BY file, line_text, day, occurrence, corrected_at DESC, quarantine_id DESC
)
UPDATE staging.quarantine AS q
SET state = CASE WHEN r.is_discarded THEN 'discarded' WHEN r.text IS NOT NULL THEN 'corrected' ELSE 'open' END,
    corrected_text = CASE WHEN r.is_discarded THEN q.corrected_text ELSE r.text END, corrected_at = clock_timestamp(),
    inherited_from = CASE WHEN r.is_discarded OR r.text IS NOT NULL THEN r.origin END
FROM identified AS i
JOIN resolved AS r USING (file, line_text, day, occurrence)
WHERE q.quarantine_id = i.quarantine_id AND i.quarantine_id <> r.origin
  AND (i.is_discarded, i.text) IS DISTINCT FROM (r.is_discarded, r.text)
RETURNING q.quarantine_id, q.fetch_id, r.origin, i.text AS former_text

-- name: touch
-- Parse the row again unchanged: after an upgrade a rule may be more lenient.
UPDATE staging.quarantine SET corrected_at = clock_timestamp() WHERE quarantine_id = ANY (%(ids)s)

-- name: states
SELECT quarantine_id, state, reason FROM staging.quarantine WHERE quarantine_id = ANY (%(ids)s) ORDER BY quarantine_id
