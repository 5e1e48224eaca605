-- name: clear_days
DELETE FROM mart.f_mailing_statistics WHERE date_id = ANY (%(date_ids)s)

-- name: fill_days
INSERT INTO mart.f_mailing_statistics (date_id, mailing_id, messages, pending, sent, failed, timed_out, attempts,
                                       linked_customers, median_seconds, slowest_seconds, last_finished_at)
SELECT date_id, mailing_id, count(*), count(*) FILTER (WHERE status = 'Pending'),
       count(*) FILTER (WHERE status = 'SENT'), count(*) FILTER (WHERE status = 'FAILED'),
       count(*) FILTER (WHERE status = 'TIMEOUT'), sum(attempts), count(DISTINCT customer_id),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds_to_deliver::float8), max(seconds_to_deliver),
       max(finished_at)
FROM mart.f_mailing_deliveries
WHERE date_id = ANY (%(date_ids)s)
GROUP BY date_id, mailing_id

-- name: summary
SELECT date_id, count(*) AS mailings, sum(attempts)::bigint AS attempts, max(slowest_seconds) AS slowest_seconds
FROM mart.f_mailing_statistics
WHERE date_id = ANY (%(date_ids)s)
GROUP BY date_id
