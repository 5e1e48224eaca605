-- Find statistics that differ from the sums of their deliveries.
-- name: offending
SELECT date_id, count(*) AS offending, min(format('mailing %%s', mailing_id)) AS example
FROM (
    SELECT date_id, mailing_id, count(*) AS messages, count(*) FILTER (WHERE status = 'Pending') AS pending,
           count(*) FILTER (WHERE status = 'SENT') AS sent, count(*) FILTER (WHERE status = 'FAILED') AS failed,
           count(*) FILTER (WHERE status = 'TIMEOUT') AS timed_out, sum(attempts) AS attempts
    FROM mart.f_mailing_deliveries
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY date_id, mailing_id
) AS f
FULL JOIN (
    SELECT * FROM mart.f_mailing_statistics WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS s USING (date_id, mailing_id)
WHERE (f.messages, f.pending, f.sent, f.failed, f.timed_out, f.attempts)
      IS DISTINCT FROM (s.messages, s.pending, s.sent, s.failed, s.timed_out, s.attempts)
GROUP BY date_id
ORDER BY date_id
