-- Find categories and regions whose pieces or amount differ between staging and mart, per day.
-- name: offending
SELECT date_id, count(*) AS offending,
       min(format('category %%s, region %%s: %%s pieces for %%s staged, %%s for %%s in the mart', category_id, geo_id,
                  coalesce(s.sales_qty, 0), coalesce(s.sales_amt, 0), coalesce(m.sales_qty, 0),
                  coalesce(m.sales_amt, 0))) AS example
FROM (
    SELECT date_id, category_id, geo_id, sales_qty, sales_amt
    FROM staging.custom_research
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS s
FULL JOIN (
    SELECT date_id, category_id, geo_id, sales_qty, sales_amt
    FROM mart.f_research
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS m USING (date_id, category_id, geo_id)
WHERE (s.sales_qty, s.sales_amt) IS DISTINCT FROM (m.sales_qty, m.sales_amt)
GROUP BY date_id
ORDER BY date_id
