-- name: summary
-- The result that `sales-assets load` prints.
SELECT count(*) AS days_with_rows, coalesce(sum(rows), 0)::bigint AS rows,
       coalesce(sum(refunded_rows), 0)::bigint AS refunded_rows,
       coalesce(sum(net_amount), 0) AS net_amount, coalesce(sum(net_quantity), 0) AS net_quantity
FROM (
    SELECT count(*) AS rows, count(*) FILTER (WHERE status = 'refunded') AS refunded_rows,
           sum(amount) AS net_amount, sum(quantity) AS net_quantity
    FROM mart.f_sales
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY date_id
) AS days

-- name: not_found
SELECT count(*) AS days
FROM (SELECT DISTINCT ON (first_day) outcome FROM raw.delivery
      WHERE kind = 'increment' AND first_day BETWEEN %(first_day)s AND %(last_day)s
      ORDER BY first_day, delivery_id DESC) AS last
WHERE outcome = 'not_found'

-- name: open_quarantine
SELECT count(*) AS lines
FROM staging.quarantine AS q
JOIN raw.fetch AS f USING (fetch_id)
WHERE q.state = 'open' AND f.first_day <= %(last_day)s AND f.last_day >= %(first_day)s

-- name: outside
-- Count rows that are not loaded because their day is outside the file's period or before SALES_FIRST_DAY, in contents
-- that the runs parsed or received again.
SELECT coalesce(sum(r.outside_period), 0)::bigint AS outside_period,
       coalesce(sum(r.before_first_day), 0)::bigint AS before_first_day
FROM staging.fetch_reading AS r
WHERE r.run_id = ANY(%(run_ids)s)
   OR r.fetch_id IN (SELECT e.fetch_id FROM raw.file_delivery AS e JOIN raw.delivery AS d USING (delivery_id)
                     WHERE d.run_id = ANY(%(run_ids)s))
