-- Refunded rows above zero and shipped rows below; legacy rows are as their writer left them.
-- name: offending
SELECT date_id, count(*) AS offending, min(format('id %%s: %%s %%s', id, status, amount)) AS example
FROM mart.f_sales
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND source <> 'legacy'
  AND CASE status WHEN 'refunded' THEN quantity <= 0 AND amount <= 0 ELSE quantity >= 0 AND amount >= 0 END IS NOT TRUE
GROUP BY date_id
ORDER BY date_id
