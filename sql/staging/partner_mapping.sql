-- name: map_item
INSERT INTO staging.partner_item (kodpost, their_id, item_id) VALUES (%(kodpost)s, %(theirs)s, %(ours)s)
ON CONFLICT (kodpost, their_id) DO UPDATE SET item_id = EXCLUDED.item_id

-- name: map_pharmacy
INSERT INTO staging.partner_pharmacy (kodpost, their_pharmacy_id, city_id) VALUES (%(kodpost)s, %(theirs)s, %(ours)s)
ON CONFLICT (kodpost, their_pharmacy_id) DO UPDATE SET city_id = EXCLUDED.city_id

-- name: map_customer
INSERT INTO staging.partner_customer (phone, customer_id) VALUES (%(theirs)s, %(ours)s)
ON CONFLICT (phone) DO UPDATE SET customer_id = EXCLUDED.customer_id

-- name: waiting
SELECT q.date_id, q.message_id, q.line_no, q.status, q.reason
FROM staging.partner_order_quarantine AS q
ORDER BY q.date_id, q.message_id, q.line_no, q.status
