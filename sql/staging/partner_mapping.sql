-- name: map_items
INSERT INTO staging.partner_item (kodpost, their_id, item_id)
SELECT %(kodpost)s, theirs, ours FROM unnest(%(theirs)s::text[], %(ours)s::integer[]) AS told (theirs, ours)
ON CONFLICT (kodpost, their_id) DO UPDATE SET item_id = EXCLUDED.item_id

-- name: map_pharmacies
INSERT INTO staging.partner_pharmacy (kodpost, their_pharmacy_id, city_id)
SELECT %(kodpost)s, theirs, ours FROM unnest(%(theirs)s::text[], %(ours)s::integer[]) AS told (theirs, ours)
ON CONFLICT (kodpost, their_pharmacy_id) DO UPDATE SET city_id = EXCLUDED.city_id

-- name: forget_customers
-- Delete the mappings of these phones, in any spelling; new ones replace them.
DELETE FROM staging.partner_customer
WHERE client_phone = ANY (%(keys)s) OR client_phone = ANY (%(pseudonyms)s)

-- name: map_customers
-- An erased phone is mapped by its pseudonym, with which its events are staged.
INSERT INTO staging.partner_customer (phone, customer_id)
SELECT CASE WHEN mailings.is_erased(pseudonym, %(key_id)s) THEN pseudonym ELSE phone END, customer_id
FROM unnest(%(phones)s::text[], %(pseudonyms)s::text[], %(ours)s::integer[]) AS told (phone, pseudonym, customer_id)
ON CONFLICT DO NOTHING

-- name: shared_phones
-- Find phones that are mapped to several customers, which are not used.
SELECT client_phone AS phone, array_agg(DISTINCT customer_id ORDER BY customer_id) AS customers
FROM staging.partner_customer
WHERE client_phone IS NOT NULL
GROUP BY client_phone
HAVING min(customer_id) <> max(customer_id)
ORDER BY client_phone

-- name: waiting
-- phone: the phone that was looked up, if the customer is missing; as written, if it can't be parsed.
SELECT q.date_id, q.message_id, q.line_no, q.status, q.reason,
       CASE WHEN q.reason LIKE '%%customer''s phone%%' THEN coalesce(mailings.phone_key(e.phone), e.phone) END AS phone
FROM staging.partner_order_quarantine AS q
LEFT JOIN staging.partner_order_event AS e USING (message_id)
ORDER BY q.date_id, q.message_id, q.line_no, q.status
