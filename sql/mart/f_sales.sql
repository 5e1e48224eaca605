-- name: avoid_full_scans
-- Planner settings for the transaction that replaces days. Without statistics of new rows, the planner would scan and sort
-- whole tables for each batch of days. Batches are loaded in parallel already.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true)

-- name: clear_days
-- Days of the report API replace legacy rows too; rows of other sources are kept.
DELETE FROM mart.f_sales
WHERE source IN ('report_api', 'legacy') AND date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
  AND date_id IN (SELECT date_id FROM staging.staged_day
                  WHERE file = 'user_orders_log' AND date_id = ANY (%(date_ids)s))

-- name: occupied_days
SELECT DISTINCT date_id FROM mart.f_sales
WHERE source IN ('report_api', 'legacy') AND date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
  AND date_id = ANY (%(date_ids)s)

-- name: column_types
-- An adopted mart may have other types than those in docs/data-contracts/day-rules.md ("Mart").
SELECT attname AS column, atttypid::regtype::text AS type
FROM pg_attribute
WHERE attrelid = 'mart.f_sales'::regclass AND attnum > 0 AND NOT attisdropped

-- name: number_types
SELECT attname AS column, format_type(atttypid, atttypmod) AS type
FROM pg_attribute
WHERE attrelid = 'mart.f_sales'::regclass AND attname IN ('quantity', 'amount') AND NOT attisdropped

-- name: use_one_snapshot
-- All statements of the transaction see the mart as it is now, however long they take.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: named_rows
-- for_spreadsheets: put an apostrophe before a name that would be read as a formula.
COPY (
    SELECT f.id, f.date_id, to_date(f.date_id::text, 'YYYYMMDD'), f.city_id,
           regexp_replace(c.city_name, formula.start, ''''), f.customer_id,
           regexp_replace(u.first_name, formula.start, ''''), regexp_replace(u.last_name, formula.start, ''''),
           f.item_id, regexp_replace(i.item_name, formula.start, ''''), f.quantity, f.amount, f.status, f.source
    FROM mart.f_sales AS f
    LEFT JOIN mart.d_city AS c ON c.city_id = f.city_id
    LEFT JOIN mart.d_customer AS u ON u.customer_id = f.customer_id
    LEFT JOIN mart.d_item AS i ON i.item_id = f.item_id
    CROSS JOIN (SELECT CASE WHEN %(for_spreadsheets)s THEN '^(?=[-=+@＝＋－＠\t\r\n])' ELSE '(?!)' END) AS formula (start)
    WHERE f.date_id = %(date_id)s
    ORDER BY f.id
) TO STDOUT (FORMAT csv)

-- name: reserve_ids
SELECT staging.reserve_sale_ids(%(count)s) AS first_id

-- name: draw_ids
-- The CTE looks up the name of the sequence once, not for each id.
WITH f_sales AS MATERIALIZED (SELECT pg_get_serial_sequence('mart.f_sales', 'id')::regclass AS sequence)
SELECT array_agg(nextval(sequence)) AS ids
FROM f_sales CROSS JOIN generate_series(1, %(count)s)

-- name: copy_rows
COPY mart.f_sales (id, date_id, item_id, customer_id, city_id, quantity, amount, status, source)
FROM STDIN (FORMAT binary)

-- name: copy_rows_as_text
COPY mart.f_sales (id, date_id, item_id, customer_id, city_id, quantity, amount, status, source)
FROM STDIN (FORMAT csv)

-- name: sums_of_ids
-- Sum the rows just written, found by the primary key, since the index on days does not cover their blocks yet. The range
-- of ids may include rows of concurrent writers.
SELECT date_id, status, count(*) AS rows, sum(quantity) AS quantity, sum(amount) AS amount,
       sum(id %% 65521 * (1::bigint + item_id + 7::bigint * customer_id + 31::bigint * city_id)) AS keys
FROM mart.f_sales
WHERE source = 'report_api' AND id BETWEEN %(first_id)s AND %(last_id)s AND (date_id + 0) = ANY (%(date_ids)s)
GROUP BY date_id, status

-- name: sums_of_days
SELECT date_id, status, count(*) AS rows, sum(quantity) AS quantity, sum(amount) AS amount,
       sum(id %% 65521 * (1::bigint + item_id + 7::bigint * customer_id + 31::bigint * city_id)) AS keys
FROM mart.f_sales
WHERE source = 'report_api' AND date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)
GROUP BY date_id, status

-- name: days_of_other_sources
-- Find days that also have rows of partner orders. (Legacy rows are deleted when their day is replaced.)
SELECT DISTINCT date_id FROM staging.partner_order_line
WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s AND date_id = ANY (%(date_ids)s)

-- name: summary
SELECT date_id, count(*) AS rows, count(*) FILTER (WHERE status = 'refunded') AS refunded_rows,
       coalesce(sum(amount), 0) AS net_amount, coalesce(sum(quantity), 0) AS net_quantity,
       coalesce(sum(amount) FILTER (WHERE status = 'refunded'), 0) AS refunded_amount
FROM mart.f_sales
WHERE date_id = ANY (%(date_ids)s)
GROUP BY date_id

-- name: summarize_days
-- Add new blocks to the BRIN indexes before the next load searches them. Only an owner may do this; with a loader of least
-- privilege, autovacuum does it.
SELECT brin_summarize_new_values(oid) FROM pg_class
WHERE oid IN ('mart.f_sales_days'::regclass, 'staging.user_orders_log_days'::regclass)
  AND pg_has_role(relowner, 'USAGE')

-- name: sample_few
-- Statistics from some thousand rows are sufficient for the plans of the checks.
SELECT set_config('default_statistics_target', '10', true)

-- name: sample_staging
-- Only an owner may do this; without, the checks of a large first load take longer.
ANALYZE staging.user_orders_log (date_id, status, item_id)

-- name: sample_names
ANALYZE staging.name (dimension, id, first)

-- name: sample_prices
ANALYZE staging.price_log (date_id, item_name)

-- name: sample_mart
ANALYZE mart.f_sales (date_id, status, source)
