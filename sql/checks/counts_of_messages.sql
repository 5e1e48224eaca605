-- Find mailings of the days whose message counts, which the API returns, differ from their messages. date_id is the first
-- day of the mailing's messages.
-- name: offending
WITH asked AS (
    SELECT mailing_id, min(date_id) AS date_id FROM mart.f_mailing_deliveries
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY mailing_id
), counted AS (
    SELECT mailing_id, status, sum(change) AS count FROM mailings.message_count
    WHERE mailing_id IN (SELECT mailing_id FROM asked)
    GROUP BY mailing_id, status
), found AS (
    SELECT mailing_id, status, count(*) AS count FROM mailings.message
    WHERE mailing_id IN (SELECT mailing_id FROM asked)
    GROUP BY mailing_id, status
)
SELECT asked.date_id, count(*) AS offending,
       min(format('mailing %%s, %%s: counted %%s, there are %%s', mailing_id, status, coalesce(counted.count, 0),
                  coalesce(found.count, 0))) AS example
FROM found
FULL JOIN counted USING (mailing_id, status)
JOIN asked USING (mailing_id)
WHERE coalesce(found.count, 0) <> coalesce(counted.count, 0)
GROUP BY asked.date_id
ORDER BY asked.date_id
