-- Lines of the mart whose status is neither shipped nor refunded.
-- name: offending
SELECT date_id, count(*) AS offending, min(coalesce(status, 'NULL')) AS example
FROM mart.f_sales
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND (status IN ('shipped', 'refunded')) IS NOT TRUE
GROUP BY date_id
ORDER BY date_id
