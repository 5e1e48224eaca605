-- Find days whose rows, amounts, quantities or keys differ between staging and mart, by status. Keys are compared by a
-- checksum with the row's id: totals alone would miss a day with the same sums and other customers.
-- name: offending
SELECT date_id, count(*) AS offending,
       min(format('%%s: %%s rows and %%s staged, %%s rows and %%s in the mart%%s', status, coalesce(s.rows, 0),
                  coalesce(s.amount, 0), coalesce(m.rows, 0), coalesce(m.amount, 0),
                  CASE WHEN s.keys <> m.keys THEN ', of other keys' END)) AS example
FROM (
    SELECT date_id, status, count(*) AS rows,
           sum(CASE status WHEN 'refunded' THEN -payment_amount ELSE payment_amount END) AS amount,
           sum(CASE status WHEN 'refunded' THEN -quantity ELSE quantity END) AS quantity,
           sum(sale_id %% 65521 * (1::bigint + item_id + 7::bigint * customer_id + 31::bigint * city_id)) AS keys
    FROM staging.user_orders_log
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY date_id, status
) AS s
FULL JOIN (
    SELECT date_id, status, count(*) AS rows, sum(amount) AS amount, sum(quantity) AS quantity,
           sum(id %% 65521 * (1::bigint + item_id + 7::bigint * customer_id + 31::bigint * city_id)) AS keys
    FROM mart.f_sales
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND source = 'report_api'
    GROUP BY date_id, status
) AS m USING (date_id, status)
WHERE (s.rows, s.amount, s.quantity, s.keys) IS DISTINCT FROM (m.rows, m.amount, m.quantity, m.keys)
GROUP BY date_id
ORDER BY date_id
