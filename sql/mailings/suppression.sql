-- name: add
-- A phone that is suppressed already keeps its source and time. An erased phone is not stored: no client has it.
INSERT INTO mailings.suppression (phone, source, suppressed_at)
SELECT DISTINCT ON (phone) phone, %(source)s, coalesce(suppressed_at, now())
FROM unnest(%(phones)s::text[], %(pseudonyms)s::text[], %(times)s::timestamptz[]) AS n (phone, pseudonym, suppressed_at)
WHERE NOT mailings.is_erased(pseudonym, %(key_id)s)
ORDER BY phone, suppressed_at
ON CONFLICT (phone) DO NOTHING
RETURNING suppression_id AS id, phone

-- name: remove
DELETE FROM mailings.suppression WHERE phone = %(phone)s RETURNING phone

-- name: lift
DELETE FROM mailings.suppression WHERE suppression_id = %(suppression_id)s RETURNING suppression_id AS id

-- name: normalized
-- Phones in the format of the clients; NULL for what is not a phone.
SELECT mailings.phone_of(phone) AS phone
FROM unnest(%(phones)s::text[]) WITH ORDINALITY AS n (phone, place)
ORDER BY place

-- name: all
SELECT phone, source, suppressed_at FROM mailings.suppression ORDER BY phone

-- name: recipient
-- The phone that a message was sent to, unless its client was deleted since.
SELECT c.phone
FROM mailings.message AS m
JOIN mailings.client AS c USING (client_id)
WHERE m.message_id = %(message_id)s

-- name: search
-- For the admin page: a page, latest first.
SELECT suppression_id AS id, phone, source, suppressed_at
FROM mailings.suppression
WHERE (%(words)s::text IS NULL OR phone LIKE %(words)s)
  AND (%(ids)s::bigint[] IS NULL OR suppression_id = ANY (%(ids)s))
ORDER BY suppression_id DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: count_found
SELECT count(*) AS count FROM mailings.suppression WHERE %(words)s::text IS NULL OR phone LIKE %(words)s
