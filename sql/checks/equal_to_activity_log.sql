-- Find customers and actions whose events or quantity differ between staging and mart, per day.
-- name: offending
SELECT date_id, count(*) AS offending,
       min(format('customer %%s, action %%s: %%s events and quantity %%s staged, %%s and %%s in the mart',
                  customer_id, action_id, coalesce(s.events, 0), coalesce(s.quantity, 0), coalesce(m.events, 0),
                  coalesce(m.quantity, 0))) AS example
FROM (
    SELECT date_id, customer_id, action_id, count(*) AS events, sum(quantity) AS quantity
    FROM staging.user_activity_log
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY date_id, customer_id, action_id
) AS s
FULL JOIN (
    SELECT date_id, customer_id, action_id, events, quantity
    FROM mart.f_activity
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS m USING (date_id, customer_id, action_id)
WHERE (s.events, s.quantity) IS DISTINCT FROM (m.events, m.quantity)
GROUP BY date_id
ORDER BY date_id
