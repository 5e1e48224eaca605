-- Find days with sales whose week was not computed, lacks one of their items, or does not exist because date_id is not a
-- date.
-- name: offending
WITH sold AS MATERIALIZED (
    SELECT date_id, item_id, count(*) AS rows
    FROM mart.f_sales
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id >= %(first_week_date_id)s
    GROUP BY date_id, item_id
), day AS MATERIALIZED (
    SELECT date_id, mart.iso_week(date_id) AS period_id FROM (SELECT DISTINCT date_id FROM sold) AS once
)
SELECT date_id, sum(rows)::bigint AS offending,
       min(CASE WHEN day.period_id IS NULL THEN format('%%s is not a date', date_id)
                ELSE format('item %%s is not in week %%s', item_id, day.period_id) END) AS example
FROM sold
JOIN day USING (date_id)
LEFT JOIN mart.f_customer_retention AS r USING (period_id, item_id)
WHERE r.period_name IS NULL
GROUP BY date_id
ORDER BY date_id
