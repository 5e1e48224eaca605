-- name: take_events
-- The events of the days, each with its day. Bounds are timestamps, so that the index on dated_at is used.
CREATE TEMP TABLE partner_event ON COMMIT DROP AS
SELECT to_char(d.day, 'YYYYMMDD')::integer AS date_id, e.message_id, e.kind, e.project_id, e.kodpost, e.order_id,
       e.their_pharmacy_id, mailings.phone_key(e.phone) AS phone_key, e.lines
FROM unnest(%(days)s::date[]) AS d (day)
JOIN staging.partner_order_event AS e
  ON e.dated_at >= d.day::timestamp AT TIME ZONE %(timezone)s
 AND e.dated_at < (d.day + 1)::timestamp AT TIME ZONE %(timezone)s

-- name: make_lines
-- An event that makes a sale gives shipped lines on its day. A cancel gives the same lines as refunded on its own day, if
-- there was a sale.
CREATE TEMP TABLE partner_line ON COMMIT DROP AS
SELECT md5(concat_ws(':', e.project_id, e.order_id, l.line_no, e.status)) AS uniq_id, e.date_id, e.status, e.message_id,
       e.project_id, e.order_id, l.line_no, i.item_id, c.customer_id, p.city_id, l.count::numeric AS quantity,
       l.count * l.price AS amount,
       concat_ws('; ',
           CASE WHEN i.item_id IS NULL THEN format('item %%s of %%s has no mapping', l.their_id, e.kodpost) END,
           CASE WHEN c.customer_id IS NOT NULL THEN NULL
                WHEN e.phone_key IS NULL THEN 'the customer''s phone is not a phone number'
                WHEN EXISTS (SELECT FROM staging.partner_customer AS one WHERE one.client_phone = e.phone_key)
                THEN 'the customer''s phone is mapped to several customers'
                ELSE 'the customer''s phone has no mapping' END,
           CASE WHEN p.city_id IS NULL THEN format('pharmacy %%s of %%s has no mapping', e.their_pharmacy_id, e.kodpost) END,
           CASE WHEN l.count >= 1e8 OR l.count * l.price >= 1e8 THEN
               format('%%s x %%s does not fit numeric(10,2)', l.count, l.price) END) AS reason
FROM (
    SELECT *, 'shipped' AS status FROM partner_event WHERE kind = %(sale_kind)s
    UNION ALL
    SELECT *, 'refunded' FROM partner_event AS cancel
    WHERE kind = 'cancelled'
      AND EXISTS (SELECT FROM staging.partner_order_event AS sale
                  WHERE (sale.project_id, sale.order_id, sale.kind)
                        = (cancel.project_id, cancel.order_id, %(sale_kind)s::text))
) AS e
CROSS JOIN jsonb_to_recordset(e.lines) AS l (line_no integer, their_id text, price numeric, count bigint)
LEFT JOIN staging.partner_item AS i ON (i.kodpost, i.their_id) = (e.kodpost, l.their_id)
LEFT JOIN staging.customer_of_phone AS c ON c.phone = e.phone_key
LEFT JOIN staging.partner_pharmacy AS p ON (p.kodpost, p.their_pharmacy_id) = (e.kodpost, e.their_pharmacy_id)

-- name: clear_quarantine
DELETE FROM staging.partner_order_quarantine
WHERE date_id = ANY (%(date_ids)s) OR message_id IN (SELECT message_id FROM partner_event)

-- name: quarantine
INSERT INTO staging.partner_order_quarantine (message_id, line_no, status, date_id, reason)
SELECT message_id, line_no, status, date_id, reason FROM partner_line WHERE reason <> ''

-- name: former_days
-- Find the days from which lines or quarantined lines are replaced; only a changed SALES_TIMEZONE or SALE_ON moves them.
SELECT date_id FROM staging.partner_order_line
WHERE date_id <> ALL (%(date_ids)s) AND uniq_id IN (SELECT uniq_id FROM partner_line)
UNION
SELECT date_id FROM staging.partner_order_quarantine
WHERE date_id <> ALL (%(date_ids)s) AND message_id IN (SELECT message_id FROM partner_event)

-- name: remember
-- Remember the ids of the days' lines, and of lines that another time zone moves here: a line keeps its mart id.
CREATE TEMP TABLE former_line ON COMMIT DROP AS
SELECT uniq_id, sale_id FROM staging.partner_order_line
WHERE date_id = ANY (%(date_ids)s) OR uniq_id IN (SELECT uniq_id FROM partner_line)

-- name: clear_days
DELETE FROM staging.partner_order_line WHERE uniq_id IN (SELECT uniq_id FROM former_line)

-- name: fill_days
INSERT INTO staging.partner_order_line (uniq_id, date_id, status, message_id, project_id, order_id, line_no, item_id,
                                        customer_id, city_id, quantity, amount, sale_id)
SELECT l.uniq_id, l.date_id, l.status, l.message_id, l.project_id, l.order_id, l.line_no, l.item_id, l.customer_id,
       l.city_id, l.quantity, l.amount,
       coalesce(f.sale_id, nextval(pg_get_serial_sequence('mart.f_sales', 'id')))
FROM partner_line AS l
LEFT JOIN former_line AS f USING (uniq_id)
WHERE l.reason = ''

-- name: summary
SELECT date_id, count(*) AS rows, count(*) FILTER (WHERE status = 'refunded') AS refunded_rows
FROM staging.partner_order_line
WHERE date_id = ANY (%(date_ids)s)
GROUP BY date_id

-- name: event_summary
SELECT date_id, count(*) AS events, count(DISTINCT (project_id, order_id)) AS orders,
       count(*) FILTER (WHERE kind = 'cancelled') AS cancels
FROM partner_event
GROUP BY date_id
