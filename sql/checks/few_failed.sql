-- Find days on which more than a tenth of the finished messages FAILED. Messages of deleted mailings and clients are not
-- counted: their end was requested.
-- name: offending
SELECT date_id, count(*) FILTER (WHERE status = 'FAILED') AS offending,
       format('%%s of %%s; for instance: %%s', count(*) FILTER (WHERE status = 'FAILED'), count(*),
              coalesce(min(reason) FILTER (WHERE status = 'FAILED'), 'no reason')) AS example
FROM mart.f_mailing_deliveries
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND status <> 'Pending'
  AND (reason IN ('mailing deleted', 'client deleted', 'opted out')) IS NOT TRUE
GROUP BY date_id
HAVING count(*) FILTER (WHERE status = 'FAILED') * 10 > count(*)
ORDER BY date_id
