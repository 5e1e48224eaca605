-- Find uniq_ids that occur more than once; two checks in one pass. no_key_twice: a key (date, uniq_id, status) is unique.
-- uniq_id_on_one_date: the same uniq_id on another date is another event, but worth a warning. The days are compared with
-- each other and with those around them, nearest first, up to a month and half a million rows, so that the cost depends
-- on the days only. The nearest day is always among them.
-- name: offending
WITH around AS (
    SELECT date_id, sum(rows) OVER (
               ORDER BY least(abs(to_date(date_id::text, 'YYYYMMDD') - to_date(%(first_date_id)s::text, 'YYYYMMDD')),
                              abs(to_date(date_id::text, 'YYYYMMDD') - to_date(%(last_date_id)s::text, 'YYYYMMDD'))),
                        date_id) - rows AS nearer_lines
    FROM staging.staged_day
    WHERE file = 'user_orders_log' AND date_id BETWEEN %(near_first_date_id)s AND %(near_last_date_id)s
      AND date_id NOT BETWEEN %(first_date_id)s AND %(last_date_id)s
), compared AS MATERIALIZED (
    SELECT least(min(date_id), %(first_date_id)s) AS first_date_id,
           greatest(max(date_id), %(last_date_id)s) AS last_date_id
    FROM around
    WHERE nearer_lines < 500000
), suspected AS MATERIALIZED (
    -- Group by hashes, in half the time that texts take; texts that share a hash are compared below. Sorted first: nearly
    -- all are different, and a hash aggregate that exceeds memory takes twice as long.
    SELECT hash
    FROM (
        SELECT hashtextextended(uniq_id, 0) AS hash
        FROM staging.user_orders_log
        WHERE date_id BETWEEN (SELECT first_date_id FROM compared) AND (SELECT last_date_id FROM compared)
        ORDER BY hash
        OFFSET 0  -- optimization fence
    ) AS sorted
    GROUP BY hash
    HAVING count(*) > 1
), suspects AS MATERIALIZED (
    SELECT date_id, uniq_id, status
    FROM staging.user_orders_log
    WHERE date_id BETWEEN (SELECT first_date_id FROM compared) AND (SELECT last_date_id FROM compared)
      AND hashtextextended(uniq_id, 0) IN (SELECT hash FROM suspected)
), repeated AS (
    SELECT uniq_id, min(date_id) AS first_date_id, max(date_id) AS last_date_id
    FROM suspects
    GROUP BY uniq_id
    HAVING count(*) > 1
), lines AS MATERIALIZED (
    SELECT date_id, uniq_id, status, first_date_id, last_date_id
    FROM suspects
    JOIN repeated USING (uniq_id)
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
)
SELECT 'no_key_twice' AS check_name, date_id, count(*) AS offending,
       min(format('uniq_id %%s, %%s', uniq_id, status)) AS example
FROM (SELECT date_id, uniq_id, status FROM lines GROUP BY date_id, uniq_id, status HAVING count(*) > 1) AS twice
GROUP BY date_id
UNION ALL
SELECT 'uniq_id_on_one_date', date_id, count(*),
       min(format('uniq_id %%s is on %%s and on %%s', uniq_id, first_date_id, last_date_id))
FROM lines
WHERE first_date_id <> last_date_id
GROUP BY date_id
ORDER BY check_name, date_id
