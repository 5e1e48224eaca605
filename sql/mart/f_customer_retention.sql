-- name: use_one_snapshot
-- The statements must see the same sales, although days are loaded concurrently.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: exclude_other_writers
-- Serializes runs over the same week. Taken before the first row is read, so that the snapshot includes the other run's
-- commit. Readers are not blocked.
LOCK TABLE mart.f_customer_retention IN SHARE ROW EXCLUSIVE MODE

-- name: clear_weeks
DELETE FROM mart.f_customer_retention WHERE period_name = 'weekly' AND period_id = ANY (%(period_ids)s)

-- name: fill_weeks
-- A customer is new or returning in a whole week, by the shipped rows of all items. So no row is counted twice, and both
-- revenues add up to the shipped amount.
INSERT INTO mart.f_customer_retention (period_id, item_id, new_customers_count, returning_customers_count,
                                       refunded_customer_count, new_customers_revenue, returning_customers_revenue,
                                       customers_refunded, refunded_amount)
WITH day AS (
    SELECT to_char(monday + number, 'YYYYMMDD')::integer AS date_id, to_char(monday, 'IYYYIW')::integer AS period_id
    FROM unnest(%(mondays)s::date[]) AS monday CROSS JOIN generate_series(0, 6) AS number
), bought AS (
    SELECT period_id, customer_id, item_id,
           count(*) FILTER (WHERE status = 'shipped') AS shipped_lines,
           coalesce(sum(amount) FILTER (WHERE status = 'shipped'), 0) AS shipped_amount,
           count(*) FILTER (WHERE status = 'refunded') AS refunded_lines,
           coalesce(sum(amount) FILTER (WHERE status = 'refunded'), 0) AS refunded_amount
    FROM mart.f_sales
    JOIN day USING (date_id)
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
    GROUP BY period_id, customer_id, item_id
), customer AS (
    SELECT *, sum(shipped_lines) OVER (PARTITION BY period_id, customer_id) AS lines_of_the_week FROM bought
)
SELECT period_id, item_id,
       count(*) FILTER (WHERE shipped_lines > 0 AND lines_of_the_week = 1),
       count(*) FILTER (WHERE shipped_lines > 0 AND lines_of_the_week > 1),
       count(*) FILTER (WHERE refunded_lines > 0),
       coalesce(sum(shipped_amount) FILTER (WHERE lines_of_the_week = 1), 0),
       coalesce(sum(shipped_amount) FILTER (WHERE lines_of_the_week > 1), 0),
       sum(refunded_lines),
       sum(refunded_amount)
FROM customer
GROUP BY period_id, item_id

-- name: summary
-- A new customer has one row and so one item; a returning one may have several items, so their counts are not summed.
SELECT period_id, count(*) AS items, sum(new_customers_count)::bigint AS new_customers,
       sum(new_customers_revenue) AS revenue_of_new_customers,
       sum(returning_customers_revenue) AS revenue_of_returning_customers,
       sum(customers_refunded)::bigint AS refunded_lines, sum(refunded_amount) AS refunded_amount
FROM mart.f_customer_retention
WHERE period_name = 'weekly' AND period_id = ANY (%(period_ids)s)
GROUP BY period_id
