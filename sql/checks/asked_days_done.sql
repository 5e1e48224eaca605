-- Find requested days that are not done, with the cause: the last request failed, a file of the newest response can't be
-- parsed, or (for a day without increment) a file of the newest report can't be; or an order file was parsed, and the load
-- was killed before the day was staged from it. Covers all four files. A day has a row per cause; days with the same cause
-- have the same text.
-- name: offending
WITH delivered AS (
    -- Files by response. A greater number means later.
    SELECT e.delivery_id, f.fetch_id, e.number, f.file, f.kind, f.first_day, f.last_day, f.path, r.verdict, r.reason,
           r.has_status
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
    -- The newest response that is not a failed request: its files have to be loaded.
    SELECT DISTINCT ON (first_day) first_day AS day, delivery_id
    FROM raw.delivery, days
    WHERE kind = 'increment' AND outcome <> 'failed' AND first_day BETWEEN days.first AND days.last
    ORDER BY first_day, delivery_id DESC
), staged AS (
    -- Served days with the rank of the order file that they are staged from (docs/data-contracts/day-rules.md, "Selection").
    SELECT s.day, s.delivery_id, t.fetch_id,
           (SELECT row(d.has_status, d.kind = 'increment', d.number) FROM delivered AS d
            WHERE d.fetch_id = t.fetch_id ORDER BY d.number DESC LIMIT 1) AS rank
    FROM served AS s
    LEFT JOIN staging.staged_day AS t
           ON t.file = 'user_orders_log' AND t.date_id = to_char(s.day, 'YYYYMMDD')::integer
), fault AS (
    SELECT day, coalesce(reason, 'the request failed') AS cause FROM asked WHERE outcome = 'failed'
    UNION ALL
    -- A run of some assets may leave the other three files out; the order file alone decides about the day in the mart.
    -- A reason begins with the file's path, which is removed so that days with the same cause have the same text.
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
    -- A load was killed between fetching and parsing the report from which a requested day is loaded.
    SELECT s.day, p.file || ' of the report: ' || p.path || ': it was not parsed yet'
    FROM served AS s
    JOIN delivered AS p ON p.kind = 'report' AND p.file = 'user_orders_log' AND p.verdict IS NULL
                       AND s.day BETWEEN p.first_day AND p.last_day
    WHERE NOT EXISTS (SELECT FROM delivered AS d
                      WHERE d.file = p.file AND s.day BETWEEN d.first_day AND d.last_day
                        AND (d.number > p.number OR d.verdict = 'usable'))
    UNION ALL
    SELECT s.day, d.file || ' of the increment: it was parsed, but not staged'
    FROM staged AS s
    JOIN delivered AS d USING (delivery_id)
    WHERE d.file = 'user_orders_log' AND d.verdict = 'usable' AND d.fetch_id IS DISTINCT FROM s.fetch_id
      AND (s.fetch_id IS NULL OR row(d.has_status, true, d.number) > s.rank)
    UNION ALL
    SELECT s.day, d.file || ' of the report: ' || d.path || ': it was parsed, but not staged'
    FROM staged AS s
    JOIN delivered AS d ON d.kind = 'report' AND d.file = 'user_orders_log' AND d.verdict = 'usable'
                       AND s.day BETWEEN d.first_day AND d.last_day
    WHERE s.fetch_id IS NULL
)
SELECT to_char(day, 'YYYYMMDD')::integer AS date_id, 1 AS offending, cause AS example
FROM fault
ORDER BY date_id, example
