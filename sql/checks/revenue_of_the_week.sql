-- Find weeks in which the revenue of new and returning customers differs from the shipped amount, or the refunds from
-- those of the sales. date_id is the Monday of the week.
-- name: offending
SELECT to_char(to_date(r.period_id::text, 'IYYYIW'), 'YYYYMMDD')::integer AS date_id, 1 AS offending,
       format('week %%s: %%s of new and %%s of returning customers, %%s shipped; %%s refunded, %%s in the sales',
              r.period_id, r.new_revenue, r.returning_revenue, coalesce(s.shipped, 0), r.refunded,
              coalesce(s.refunded, 0)) AS example
FROM (
    SELECT period_id, sum(new_customers_revenue) AS new_revenue, sum(returning_customers_revenue) AS returning_revenue,
           sum(refunded_amount) AS refunded
    FROM mart.f_customer_retention
    WHERE period_name = 'weekly'
      AND period_id BETWEEN mart.iso_week(%(first_date_id)s) AND mart.iso_week(%(last_date_id)s)
    GROUP BY period_id
) AS r
LEFT JOIN (
    SELECT mart.iso_week(date_id) AS period_id, sum(shipped) AS shipped, sum(refunded) AS refunded
    FROM (
        SELECT date_id, coalesce(sum(amount) FILTER (WHERE status = 'shipped'), 0) AS shipped,
               coalesce(sum(amount) FILTER (WHERE status = 'refunded'), 0) AS refunded
        FROM mart.f_sales
        WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
        GROUP BY date_id
    ) AS day
    GROUP BY mart.iso_week(date_id)
) AS s USING (period_id)
WHERE (r.new_revenue + r.returning_revenue, r.refunded)
      IS DISTINCT FROM (coalesce(s.shipped, 0), coalesce(s.refunded, 0))
ORDER BY r.period_id
