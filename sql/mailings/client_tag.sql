-- name: take_tags
-- Derive the tags of each linked customer from the marts, over all days and sources.
CREATE TEMP TABLE wanted_tag ON COMMIT DROP AS
SELECT w.client_id, w.customer_id, told.tag
FROM (
    SELECT customer_id, count(*) FILTER (WHERE status = 'shipped') AS shipped_lines,
           count(*) FILTER (WHERE status = 'refunded') AS refunded_lines
    FROM mart.f_sales
    WHERE customer_id IN (SELECT customer_id FROM wanted_link)
    GROUP BY customer_id
) AS history
JOIN wanted_link AS w USING (customer_id)
CROSS JOIN LATERAL (VALUES ('new', shipped_lines = 1),
                           ('returning', shipped_lines > 1),
                           ('refunded', refunded_lines > 0)) AS told (tag, holds)
WHERE told.holds

-- name: compare_tags
CREATE TEMP TABLE tag_change ON COMMIT DROP AS
SELECT client_id, tag, w.customer_id, w.client_id IS NOT NULL AS is_wanted
FROM wanted_tag AS w
FULL JOIN mailings.client_tag AS t USING (client_id, tag)
WHERE w.client_id IS NULL OR t.client_id IS NULL

-- name: clear_gone
DELETE FROM mailings.client_tag AS t
USING tag_change AS c
WHERE NOT c.is_wanted AND (c.client_id, c.tag) = (t.client_id, t.tag)

-- name: clear_unlinked
-- Delete tags of clients that were unlinked manually meanwhile.
DELETE FROM mailings.client_tag AS t
WHERE NOT EXISTS (SELECT FROM mailings.client_customer AS l WHERE l.client_id = t.client_id)

-- name: fill_missing
-- If a link was changed manually meanwhile, its tag waits for the next run. A tag that stays keeps its time.
INSERT INTO mailings.client_tag (client_id, tag)
SELECT client_id, tag
FROM tag_change
JOIN mailings.client_customer USING (client_id, customer_id)
WHERE is_wanted

-- name: summary
SELECT count(*) FILTER (WHERE tag = 'new') AS new, count(*) FILTER (WHERE tag = 'returning') AS returning,
       count(*) FILTER (WHERE tag = 'refunded') AS refunded, count(DISTINCT client_id) AS clients_with_tags
FROM mailings.client_tag
