-- name: create_landing
CREATE TEMP TABLE landing (
    line_no        bigint NOT NULL,
    date_id        integer NOT NULL,
    uniq_id        text,
    date_time      text NOT NULL,
    city_id        integer NOT NULL,
    city_name      text NOT NULL,
    customer_id    integer NOT NULL,
    first_name     text NOT NULL,
    last_name      text NOT NULL,
    item_id        integer NOT NULL,
    item_name      text NOT NULL,
    quantity       numeric(10, 2) NOT NULL,
    payment_amount numeric(10, 2) NOT NULL,
    status         text NOT NULL,
    fetch_id       bigint NOT NULL
) ON COMMIT DROP

-- name: copy_landing
COPY landing (line_no, date_id, uniq_id, date_time, city_id, city_name, customer_id, first_name, last_name, item_id,
              item_name, quantity, payment_amount, status, fetch_id) FROM STDIN (FORMAT csv)

-- name: settle
-- Verbatim repeats are one line. Very old files have no uniq_id: there the contents are the identity.
CREATE TEMP TABLE settled ON COMMIT DROP AS
SELECT fetch_id, date_id,
       coalesce(uniq_id, md5((date_time, city_id, city_name, customer_id, first_name, last_name, item_id, item_name,
                              quantity, payment_amount, status)::text)) AS uniq_id,
       status, date_time, city_id, city_name, customer_id, first_name, last_name, item_id, item_name, quantity,
       payment_amount, min(line_no) AS line_no, count(*) AS copies
FROM landing
GROUP BY fetch_id, date_id, uniq_id, status, date_time, city_id, city_name, customer_id, first_name, last_name,
         item_id, item_name, quantity, payment_amount

-- name: find_conflicts
-- Lines of one key that differ elsewhere: nobody guesses which is right.
CREATE TEMP TABLE conflict ON COMMIT DROP AS
SELECT fetch_id, date_id, uniq_id, status, count(*) AS versions
FROM settled
GROUP BY fetch_id, date_id, uniq_id, status
HAVING count(*) > 1

-- name: conflicting_lines
SELECT l.fetch_id, l.line_no, l.date_id,
       format('%%s different lines share uniq_id %%s, date %%s and status %%s', c.versions, left(l.uniq_id, 40),
              l.date_id, l.status) AS reason
FROM landing AS l
JOIN conflict AS c USING (fetch_id, date_id, uniq_id, status)

-- name: drop_conflicts
DELETE FROM settled AS s USING conflict AS c
WHERE (s.fetch_id, s.date_id, s.uniq_id, s.status) = (c.fetch_id, c.date_id, c.uniq_id, c.status)

-- name: replace_days
-- Whole days: what the chosen fetch does not bring is gone. A line that was there before keeps its mart id.
WITH former AS (
    DELETE FROM staging.user_orders_log WHERE date_id IN (SELECT date_id FROM chosen_day)
    RETURNING date_id, uniq_id, status, sale_id
)
INSERT INTO staging.user_orders_log (date_id, uniq_id, status, date_time, city_id, city_name, customer_id, first_name,
                                     last_name, item_id, item_name, quantity, payment_amount, fetch_id, line_no, sale_id)
SELECT s.date_id, s.uniq_id, s.status, s.date_time, s.city_id, s.city_name, s.customer_id, s.first_name,
       s.last_name, s.item_id, s.item_name, s.quantity, s.payment_amount, s.fetch_id, s.line_no,
       coalesce(former.sale_id, nextval(pg_get_serial_sequence('mart.f_sales', 'id')))
FROM settled AS s
JOIN chosen_day AS c USING (fetch_id, date_id)
LEFT JOIN former USING (date_id, uniq_id, status)
