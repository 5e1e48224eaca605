-- Statements of `sales-assets forget`, for all schemas. keys: phones as normalized by mailings.phone_key; pseudonyms: those
-- of the same phones, in the same order.

-- name: phone_key
SELECT mailings.phone_key(%(phone)s) AS key

-- name: customers_of_phones
SELECT customer_id FROM staging.partner_customer
WHERE client_phone = ANY (%(keys)s) OR client_phone = ANY (%(pseudonyms)s)
UNION
SELECT l.customer_id
FROM mailings.client AS c JOIN mailings.client_customer AS l USING (client_id)
WHERE c.phone = ANY (%(keys)s)
ORDER BY customer_id

-- name: phones_of_customer
-- Phones that are still stored: those mapped to the customer, and those of clients linked to it.
SELECT client_phone AS key FROM staging.partner_customer
WHERE customer_id = %(customer_id)s AND client_phone NOT LIKE 'erased:%%'
UNION
SELECT c.phone
FROM mailings.client AS c JOIN mailings.client_customer AS l USING (client_id)
WHERE l.customer_id = %(customer_id)s
ORDER BY key

-- name: erased_phones_of_customer
SELECT client_phone AS pseudonym FROM staging.partner_customer
WHERE customer_id = %(customer_id)s AND client_phone LIKE 'erased:%%'

-- name: phones_of_orders
SELECT DISTINCT mailings.phone_key(phone) AS key FROM orders.partner_order WHERE phone NOT LIKE 'erased:%%'

-- name: exclude_writers
-- Inserts that have not yet checked whether their phone was erased wait for the commit, and check then.
LOCK TABLE mailings.client, mailings.suppression, staging.partner_customer, staging.partner_order_event, orders.partner_order
    IN SHARE ROW EXCLUSIVE MODE

-- name: remember_phones
INSERT INTO mailings.erased_phone (pseudonym, key_id)
SELECT unnest(%(pseudonyms)s::text[]), %(key_id)s
ON CONFLICT (pseudonym) DO NOTHING

-- name: names
-- One empty name per customer, with the first and last use of all its names.
WITH gone AS (
    DELETE FROM staging.name
    WHERE dimension = 'd_customer' AND id = ANY (%(customer_ids)s) AND first || second <> ''
    RETURNING *
)
INSERT INTO staging.name AS n (dimension, id, first, second, first_seen, last_seen, last_line, loaded_at, stored_at)
SELECT dimension, id, '', '', min(first_seen), max(last_seen),
       (array_agg(last_line ORDER BY last_seen DESC, loaded_at DESC, last_line DESC))[1],
       (array_agg(loaded_at ORDER BY last_seen DESC, loaded_at DESC, last_line DESC))[1], max(stored_at)
FROM gone
GROUP BY dimension, id
ON CONFLICT (dimension, id, (md5(md5(first) || second)::uuid)) DO UPDATE
SET first_seen = least(n.first_seen, EXCLUDED.first_seen), last_seen = greatest(n.last_seen, EXCLUDED.last_seen),
    last_line = CASE WHEN EXCLUDED.last_seen >= n.last_seen THEN EXCLUDED.last_line ELSE n.last_line END,
    loaded_at = CASE WHEN EXCLUDED.last_seen >= n.last_seen THEN EXCLUDED.loaded_at ELSE n.loaded_at END,
    stored_at = greatest(n.stored_at, EXCLUDED.stored_at)

-- name: dimension
-- The row becomes that of a customer whose names were always empty.
UPDATE mart.d_customer SET first_name = '', last_name = '', name_as_of = NULL
WHERE customer_id = ANY (%(customer_ids)s) AND concat(first_name, last_name) <> ''

-- name: orders
UPDATE orders.partner_order AS o SET phone = p.pseudonym
FROM unnest(%(keys)s::text[], %(pseudonyms)s::text[]) AS p (key, pseudonym)
WHERE mailings.phone_key(o.phone) = p.key

-- name: answers
-- The partner's answers to all orders with erased phones: they may quote the phone in any spelling, or the name, which is
-- sent with an order and not stored. add_evidence stores later answers without their messages.
UPDATE orders.partner_order
SET refusal = refusal || CASE WHEN refusal ->> 'message' <> '' THEN '{"message": "erased"}' ELSE '{}' END::jsonb,
    cancel_answer = cancel_answer
                    || CASE WHEN cancel_answer ->> 'message' <> '' THEN '{"message": "erased"}' ELSE '{}' END::jsonb
WHERE phone LIKE 'erased:%%'
  AND (refusal ->> 'message' NOT IN ('', 'erased') OR cancel_answer ->> 'message' NOT IN ('', 'erased'))

-- name: events
UPDATE staging.partner_order_event AS e SET phone = p.pseudonym
FROM unnest(%(keys)s::text[], %(pseudonyms)s::text[]) AS p (key, pseudonym)
WHERE mailings.phone_key(e.phone) = p.key

-- name: mappings
-- The pseudonym is mapped to the customers of the phone.
WITH gone AS (
    DELETE FROM staging.partner_customer WHERE client_phone = ANY (%(keys)s) RETURNING client_phone, customer_id
)
INSERT INTO staging.partner_customer (phone, customer_id)
SELECT DISTINCT p.pseudonym, gone.customer_id
FROM gone JOIN unnest(%(keys)s::text[], %(pseudonyms)s::text[]) AS p (key, pseudonym) ON p.key = gone.client_phone
ON CONFLICT DO NOTHING

-- name: clients
SELECT client_id FROM mailings.client
WHERE phone = ANY (%(keys)s)
   OR client_id IN (SELECT client_id FROM mailings.client_customer WHERE customer_id = ANY (%(customer_ids)s))
ORDER BY client_id

-- name: suppressions
DELETE FROM mailings.suppression WHERE phone = ANY (%(keys)s)

-- name: raw_files
-- All fetches of files with names of customers, oldest first, with their parse results.
SELECT f.fetch_id, f.file, f.path, f.sha256, r.verdict, r.reason
FROM raw.fetch AS f
LEFT JOIN staging.fetch_reading AS r USING (fetch_id)
WHERE f.file = ANY (%(files)s)
ORDER BY f.fetch_id

-- name: recorded_paths
SELECT path FROM raw.fetch

-- name: rejected_rows
SELECT quarantine_id, line_no, reason, line_text, corrected_text FROM staging.quarantine
WHERE fetch_id = %(fetch_id)s
ORDER BY line_no

-- name: replace_raw_file
UPDATE raw.fetch SET path = %(path)s, sha256 = %(sha256)s, bytes = %(bytes)s WHERE fetch_id = %(fetch_id)s

-- name: replace_verdict
UPDATE staging.fetch_reading SET reason = %(reason)s
WHERE fetch_id = %(fetch_id)s AND reason <> %(reason)s

-- name: replace_rejected_row
UPDATE staging.quarantine SET line_text = %(line_text)s, corrected_text = %(corrected_text)s, reason = %(reason)s
WHERE quarantine_id = %(quarantine_id)s

-- name: corrections
-- Corrected texts in the audit trail, also those that a later correction has replaced.
SELECT r.resolution_id, r.corrected_text
FROM staging.resolution AS r
JOIN staging.quarantine AS q USING (quarantine_id)
WHERE q.fetch_id = %(fetch_id)s AND r.corrected_text IS NOT NULL

-- name: replace_correction
UPDATE staging.resolution SET corrected_text = %(corrected_text)s WHERE resolution_id = %(resolution_id)s
