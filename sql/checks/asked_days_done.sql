-- Days that were asked for and are not done, each with the cause: the last request failed; a file of the newest answer
-- can't be parsed; or that of the newest report can't be, where no increment serves the day. Of all four files. A day has
-- a row per cause, and days of one cause have the same text.
-- name: offending
WITH delivered AS (
    -- Which file came with which answer. "Later" means a greater number.
    SELECT e.delivery_id, f.fetch_id, e.number, f.file, f.kind, f.first_day, f.last_day, f.path, r.verdict, r.reason
    FROM raw.file_delivery AS e
    JOIN raw.fetch AS f USING (fetch_id)
    LEFT JOIN staging.fetch_reading AS r USING (fetch_id)
), days AS (
    SELECT to_date(%(first_date_id)s::text, 'YYYYMMDD') AS first, to_date(%(last_date_id)s::text, 'YYYYMMDD') AS last
), asked AS (
    SELECT DISTINCT ON (first_day) first_day AS day, delivery_id, outcome, reason
    FROM raw.delivery, days
    WHERE kind = 'increment' AND first_day BETWEEN days.first AND days.last
    ORDER BY first_day, delivery_id DESC
), served AS (
    -- The newest answer that was none of a failed request: what it brought is what the day waits for.
    SELECT DISTINCT ON (first_day) first_day AS day, delivery_id
    FROM raw.delivery, days
    WHERE kind = 'increment' AND outcome <> 'failed' AND first_day BETWEEN days.first AND days.last
    ORDER BY first_day, delivery_id DESC
), fault AS (
    SELECT day, coalesce(reason, 'the request failed') AS cause FROM asked WHERE outcome = 'failed'
    UNION ALL
    -- The other three files may be left out on purpose, by a run of some assets; the order file decides the mart's day.
    -- A reason begins with the file's path, which would make a cause of its own of each day.
    SELECT s.day, d.file || ' of the increment: '
                  || coalesce(replace(d.reason, d.path || ': ', ''), 'it was not parsed yet')
    FROM served AS s
    JOIN delivered AS d USING (delivery_id)
    WHERE d.verdict = 'failed' OR (d.verdict IS NULL AND d.file = 'user_orders_log')
    UNION ALL
    SELECT covered.day::date, p.file || ' of the report: ' || p.reason
    FROM delivered AS p
    CROSS JOIN days
    CROSS JOIN LATERAL generate_series(greatest(p.first_day, days.first)::timestamp,
                                       least(p.last_day, days.last)::timestamp, interval '1 day') AS covered (day)
    WHERE p.kind = 'report' AND p.verdict = 'failed'
      AND NOT EXISTS (SELECT FROM delivered AS d
                      WHERE d.file = p.file AND covered.day BETWEEN d.first_day AND d.last_day
                        AND (d.kind = 'report' AND d.number > p.number AND d.verdict IS NOT NULL
                             OR d.kind = 'increment' AND d.verdict = 'usable'))
    UNION ALL
    -- A load that was killed between fetching and parsing the report that an asked day is taken from.
    SELECT s.day, p.file || ' of the report: ' || p.path || ': it was not parsed yet'
    FROM served AS s
    JOIN delivered AS p ON p.kind = 'report' AND p.file = 'user_orders_log' AND p.verdict IS NULL
                       AND s.day BETWEEN p.first_day AND p.last_day
    WHERE NOT EXISTS (SELECT FROM delivered AS d
                      WHERE d.file = p.file AND s.day BETWEEN d.first_day AND d.last_day
                        AND (d.number > p.number OR d.verdict = 'usable'))
)
SELECT to_char(day, 'YYYYMMDD')::integer AS date_id, 1 AS offending, cause AS example
FROM fault
ORDER BY date_id, example
