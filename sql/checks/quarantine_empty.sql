-- Find open rows in quarantine, of the files that cover the days. The example becomes part of Dagster's events, from which
-- nothing is erased: it has the rule that the row breaks, and not the values, which may be a person's.
-- name: offending
SELECT coalesce(q.date_id, to_char(f.first_day, 'YYYYMMDD')::integer) AS date_id, count(*) AS offending,
       min(format('%%s of %%s, line %%s: %%s', q.quarantine_id, f.path, q.line_no,
                  regexp_replace(q.reason, '''.*''', '''...'''))) AS example
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
WHERE q.state = 'open'
  AND f.first_day <= to_date(%(last_date_id)s::text, 'YYYYMMDD')
  AND f.last_day >= to_date(%(first_date_id)s::text, 'YYYYMMDD')
GROUP BY 1
ORDER BY 1
