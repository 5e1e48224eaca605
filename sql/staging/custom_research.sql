-- name: create_landing
CREATE TEMP TABLE landing (
    line_no     bigint NOT NULL,
    date_id     integer NOT NULL,
    date_time   text NOT NULL,
    category_id integer NOT NULL,
    geo_id      integer NOT NULL,
    sales_qty   numeric(10, 2) NOT NULL,
    sales_amt   numeric(10, 2) NOT NULL,
    fetch_id    bigint NOT NULL
) ON COMMIT DROP

-- name: copy_landing
COPY landing (line_no, date_id, date_time, category_id, geo_id, sales_qty, sales_amt, fetch_id)
FROM STDIN (FORMAT csv)

-- name: settle
CREATE TEMP TABLE settled ON COMMIT DROP AS
SELECT fetch_id, date_id, category_id, geo_id, sales_qty, sales_amt, min(line_no) AS line_no, count(*) AS copies
FROM landing
GROUP BY fetch_id, date_id, category_id, geo_id, sales_qty, sales_amt

-- name: find_conflicts
CREATE TEMP TABLE conflict ON COMMIT DROP AS
SELECT fetch_id, date_id, category_id, geo_id, count(*) AS versions
FROM settled
GROUP BY fetch_id, date_id, category_id, geo_id
HAVING count(*) > 1

-- name: conflicting_lines
SELECT l.fetch_id, l.line_no, l.date_id,
       format('%%s different lines share date %%s, category %%s and region %%s', c.versions, l.date_id, l.category_id,
              l.geo_id) AS reason
FROM landing AS l
JOIN conflict AS c USING (fetch_id, date_id, category_id, geo_id)

-- name: drop_conflicts
DELETE FROM settled AS s USING conflict AS c
WHERE (s.fetch_id, s.date_id, s.category_id, s.geo_id) = (c.fetch_id, c.date_id, c.category_id, c.geo_id)

-- name: replace_days
WITH former AS (
    DELETE FROM staging.custom_research WHERE date_id IN (SELECT date_id FROM chosen_day)
)
INSERT INTO staging.custom_research (date_id, category_id, geo_id, sales_qty, sales_amt, fetch_id, line_no)
SELECT s.date_id, s.category_id, s.geo_id, s.sales_qty, s.sales_amt, s.fetch_id, s.line_no
FROM settled AS s
JOIN chosen_day AS c USING (fetch_id, date_id)
