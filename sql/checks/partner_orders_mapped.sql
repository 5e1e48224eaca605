-- Find order lines that wait for a mapping, or do not fit the mart.
-- name: offending
SELECT date_id, count(*) AS offending, min(format('%%s, line %%s: %%s', message_id, line_no, reason)) AS example
FROM staging.partner_order_quarantine
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
GROUP BY date_id
ORDER BY date_id
