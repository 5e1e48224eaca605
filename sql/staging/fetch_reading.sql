-- name: unparsed
-- Find raw files that cover the days and were never parsed, or not since a row was resolved. An unusable file is parsed
-- again when it is delivered again: the parser may have been improved, or a damaged file restored. Increments come first:
-- days loaded from them need no report.
SELECT f.fetch_id, f.kind, f.path, f.sha256, f.first_day, f.last_day, f.line_count,
       r.fetch_id IS NOT NULL AS corrected, now() AS found_at, r.read_at,
       (SELECT max(corrected_at) FROM staging.quarantine AS q WHERE q.fetch_id = f.fetch_id) AS resolved_at,
       EXISTS (SELECT FROM staging.quarantine AS q WHERE q.fetch_id = f.fetch_id) AS is_quarantined
FROM raw.fetch AS f
LEFT JOIN staging.fetch_reading AS r USING (fetch_id)
WHERE f.file = %(file)s AND f.first_day <= %(last_day)s AND f.last_day >= %(first_day)s
  AND (r.fetch_id IS NULL OR EXISTS (
      SELECT FROM staging.quarantine AS q WHERE q.fetch_id = f.fetch_id AND q.corrected_at > r.read_at)
      OR (r.verdict = 'failed' AND EXISTS (
      SELECT FROM raw.file_delivery AS e JOIN raw.delivery AS d USING (delivery_id)
      WHERE e.fetch_id = f.fetch_id AND d.asked_at > r.read_at)))
ORDER BY f.kind = 'report', f.fetch_id

-- name: parsed
SELECT f.fetch_id, f.kind, f.path, f.sha256, f.first_day, f.last_day, f.line_count, false AS corrected,
       now() AS found_at, r.read_at,
       (SELECT max(corrected_at) FROM staging.quarantine AS q WHERE q.fetch_id = f.fetch_id) AS resolved_at,
       EXISTS (SELECT FROM staging.quarantine AS q WHERE q.fetch_id = f.fetch_id) AS is_quarantined
FROM raw.fetch AS f
JOIN staging.fetch_reading AS r USING (fetch_id)
WHERE f.fetch_id = ANY (%(fetch_ids)s)
ORDER BY f.fetch_id

-- name: recorded
-- Read the recorded state of files now, for comparison with their state at the first look-up.
SELECT r.fetch_id, r.read_at, r.revision,
       (SELECT max(corrected_at) FROM staging.quarantine AS q WHERE q.fetch_id = r.fetch_id) AS resolved_at
FROM staging.fetch_reading AS r WHERE r.fetch_id = ANY (%(fetch_ids)s)

-- name: out_of_reach
-- Find days whose best raw file can't be read from storage, and that have no usable file of a higher rank (`candidates`).
-- A file that was never parsed is assumed to have the same columns as the other.
WITH latest AS (
    SELECT fetch_id, max(number) AS number FROM raw.file_delivery GROUP BY fetch_id
)
SELECT f.fetch_id, d.day
FROM unnest(%(days)s::date[]) AS d (day)
JOIN raw.fetch AS f ON f.fetch_id = ANY (%(fetch_ids)s) AND d.day BETWEEN f.first_day AND f.last_day
JOIN latest AS fl ON fl.fetch_id = f.fetch_id
LEFT JOIN staging.fetch_reading AS o ON o.fetch_id = f.fetch_id AND o.verdict = 'usable'
WHERE NOT EXISTS (
    SELECT FROM raw.fetch AS b
    JOIN latest AS bl USING (fetch_id)
    JOIN staging.fetch_reading AS r USING (fetch_id)
    WHERE b.file = f.file AND d.day BETWEEN b.first_day AND b.last_day AND r.verdict = 'usable'
      AND b.fetch_id <> ALL (%(fetch_ids)s)
      AND (r.has_status, b.kind = 'increment', bl.number)
          > (coalesce(o.has_status, r.has_status), f.kind = 'increment', fl.number))
ORDER BY d.day, f.fetch_id

-- name: corrections
-- Read resolved rows: a text replaces the file's line, NULL means that the line is discarded. A correction that was still
-- rejected is included: it may become valid once a conflicting row is resolved.
SELECT fetch_id, line_no, CASE WHEN state <> 'discarded' THEN corrected_text END AS text
FROM staging.quarantine
WHERE fetch_id = ANY (%(fetch_ids)s) AND (state = 'discarded' OR corrected_text IS NOT NULL)

-- name: create_rejected_row
CREATE TEMP TABLE rejected_row (
    line_no   bigint NOT NULL,
    date_id   integer,
    reason    text NOT NULL,
    line_text text NOT NULL,
    fetch_id  bigint NOT NULL
) ON COMMIT DROP

-- name: copy_rejected_row
COPY rejected_row (line_no, date_id, reason, line_text, fetch_id) FROM STDIN (FORMAT binary)

-- name: drop_rejected_row
DROP TABLE rejected_row

-- name: quarantine
-- The day remains that of the delivered text, which identifies the row; a correction may belong to another day.
INSERT INTO staging.quarantine AS q (fetch_id, line_no, date_id, reason, line_text)
SELECT fetch_id, line_no, date_id, reason, line_text FROM rejected_row
ON CONFLICT (fetch_id, line_no) DO UPDATE
SET reason = EXCLUDED.reason,
    state = CASE q.state WHEN 'discarded' THEN 'discarded' ELSE 'open' END

-- name: resolve_quarantine
-- Resolve open rows that are now valid: a conflicting row was corrected or discarded, or a rule became more lenient.
UPDATE staging.quarantine AS q SET state = 'resolved'
WHERE q.fetch_id = ANY (%(fetch_ids)s) AND q.state = 'open'
  AND NOT EXISTS (SELECT FROM rejected_row AS b WHERE b.fetch_id = q.fetch_id AND b.line_no = q.line_no)

-- name: record
-- read_at must be before every resolution that the parse can't have seen: one made while the file was parsed, or one with
-- an earlier timestamp that was committed later.
INSERT INTO staging.fetch_reading AS r (fetch_id, verdict, reason, header, has_status, extra_columns, lines, kept,
                                        repeats, bad, before_first_day, outside_period, read_at, run_id)
SELECT n.fetch_id, n.verdict, n.reason, n.header, n.has_status, n.extra_columns, n.lines, n.kept, n.repeats, n.bad,
       n.before_first_day, n.outside_period,
       coalesce((SELECT min(corrected_at) - interval '1 microsecond' FROM staging.quarantine AS q
                 WHERE q.fetch_id = n.fetch_id AND q.corrected_at > coalesce(n.resolved_at, '-infinity')
                   AND q.corrected_at <= n.read_at), n.read_at),
       %(run_id)s
FROM jsonb_to_recordset(%(parse_results)s) AS n (fetch_id bigint, verdict text, reason text, header text[],
     has_status boolean, extra_columns text[], lines bigint, kept bigint, repeats bigint, bad bigint, before_first_day bigint,
     outside_period bigint, read_at timestamptz, resolved_at timestamptz)
ON CONFLICT (fetch_id) DO UPDATE
SET revision = r.revision + (r.fetch_id = ANY (%(corrected)s))::integer, verdict = EXCLUDED.verdict,
    reason = EXCLUDED.reason, header = EXCLUDED.header, has_status = EXCLUDED.has_status, extra_columns = EXCLUDED.extra_columns, lines = EXCLUDED.lines,
    kept = EXCLUDED.kept, repeats = EXCLUDED.repeats, bad = EXCLUDED.bad,
    before_first_day = EXCLUDED.before_first_day, outside_period = EXCLUDED.outside_period,
    read_at = EXCLUDED.read_at, run_id = EXCLUDED.run_id
RETURNING fetch_id, revision

-- name: forget_days
DELETE FROM staging.fetch_day WHERE fetch_id = ANY (%(fetch_ids)s)

-- name: record_days
INSERT INTO staging.fetch_day (fetch_id, date_id, kept, repeats, bad)
SELECT * FROM unnest(%(fetch_ids)s::bigint[], %(date_ids)s::integer[], %(kept)s::bigint[], %(repeats)s::bigint[],
                     %(bad)s::bigint[])
