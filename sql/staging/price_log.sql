-- name: create_landing
CREATE TEMP TABLE landing (
    line_no   bigint NOT NULL,
    date_id   integer,              -- always null: the file has no date
    item_name text NOT NULL,
    price     numeric(10, 2) NOT NULL,
    fetch_id  bigint NOT NULL
) ON COMMIT DROP

-- name: copy_landing
COPY landing (line_no, item_name, price, fetch_id) FROM STDIN (FORMAT csv)

-- name: settle
CREATE TEMP TABLE settled ON COMMIT DROP AS
SELECT fetch_id, date_id, item_name, price, min(line_no) AS line_no, count(*) AS copies
FROM landing
GROUP BY fetch_id, date_id, item_name, price

-- name: find_conflicts
CREATE TEMP TABLE conflict ON COMMIT DROP AS
SELECT fetch_id, item_name, count(*) AS versions
FROM settled
GROUP BY fetch_id, item_name
HAVING count(*) > 1

-- name: conflicting_lines
SELECT l.fetch_id, l.line_no, l.date_id,
       format('%%s different prices for item %%s', c.versions, left(l.item_name, 40)) AS reason
FROM landing AS l
JOIN conflict AS c USING (fetch_id, item_name)

-- name: drop_conflicts
DELETE FROM settled AS s USING conflict AS c
WHERE (s.fetch_id, s.item_name) = (c.fetch_id, c.item_name)

-- name: replace_days
-- The list stands for every day that takes it.
WITH former AS (
    DELETE FROM staging.price_log WHERE date_id IN (SELECT date_id FROM chosen_day)
)
INSERT INTO staging.price_log (date_id, item_name, price, fetch_id, line_no)
SELECT c.date_id, s.item_name, s.price, s.fetch_id, s.line_no
FROM settled AS s
JOIN chosen_day AS c USING (fetch_id)
