-- Find messages that are still Pending ten minutes after the end or deletion of their mailing. Covers all days, not only
-- those of the run: a message that is stuck causes no change that would get its day checked.
-- name: offending
SELECT to_char(m.created_at AT TIME ZONE %(timezone)s, 'YYYYMMDD')::integer AS date_id, count(*) AS offending,
       min(format('mailing %%s, which ended %%s', m.mailing_id, least(g.deleted_at, g.end_time))) AS example
FROM mailings.message AS m
LEFT JOIN mailings.mailing AS g USING (mailing_id)
WHERE m.status = 'Pending'
  AND (g.mailing_id IS NULL OR least(g.deleted_at, g.end_time) < now() - interval '10 minutes')
GROUP BY 1
ORDER BY 1
