-- name: create_landing
CREATE TEMP TABLE landing (
    line_no     bigint NOT NULL,
    date_id     integer NOT NULL,
    uniq_id     text NOT NULL,
    date_time   text NOT NULL,
    action_id   integer NOT NULL,
    customer_id integer NOT NULL,
    quantity    numeric(10, 2) NOT NULL,
    fetch_id    bigint NOT NULL
) ON COMMIT DROP

-- name: copy_landing
COPY landing (line_no, date_id, uniq_id, date_time, action_id, customer_id, quantity, fetch_id)
FROM STDIN (FORMAT csv)

-- name: settle
CREATE TEMP TABLE settled ON COMMIT DROP AS
SELECT fetch_id, date_id, uniq_id, date_time, action_id, customer_id, quantity,
       min(line_no) AS line_no, count(*) AS copies
FROM landing
GROUP BY fetch_id, date_id, uniq_id, date_time, action_id, customer_id, quantity

-- name: find_conflicts
CREATE TEMP TABLE conflict ON COMMIT DROP AS
SELECT fetch_id, date_id, uniq_id, count(*) AS versions
FROM settled
GROUP BY fetch_id, date_id, uniq_id
HAVING count(*) > 1

-- name: conflicting_lines
SELECT l.fetch_id, l.line_no, l.date_id,
       format('%%s different lines share uniq_id %%s and date %%s', c.versions, left(l.uniq_id, 40), l.date_id) AS reason
FROM landing AS l
JOIN conflict AS c USING (fetch_id, date_id, uniq_id)

-- name: drop_conflicts
DELETE FROM settled AS s USING conflict AS c
WHERE (s.fetch_id, s.date_id, s.uniq_id) = (c.fetch_id, c.date_id, c.uniq_id)

-- name: replace_days
WITH former AS (
    DELETE FROM staging.user_activity_log WHERE date_id IN (SELECT date_id FROM chosen_day)
)
INSERT INTO staging.user_activity_log (date_id, uniq_id, date_time, action_id, customer_id, quantity, fetch_id, line_no)
SELECT s.date_id, s.uniq_id, s.date_time, s.action_id, s.customer_id, s.quantity, s.fetch_id, s.line_no
FROM settled AS s
JOIN chosen_day AS c USING (fetch_id, date_id)
