-- Find rows of the research with an amount but no pieces, or the reverse.
-- name: offending
SELECT date_id, count(*) AS offending,
       min(format('category %%s, region %%s: %%s pieces for %%s', category_id, geo_id, sales_qty, sales_amt)) AS example
FROM mart.f_research
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND (sales_qty = 0) <> (sales_amt = 0)
GROUP BY date_id
ORDER BY date_id
