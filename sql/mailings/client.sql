-- name: create
-- A client with an erased phone is not stored, which the returned row indicates.
WITH asked AS MATERIALIZED (
    SELECT mailings.is_erased(%(pseudonym)s, %(key_id)s) AS erased
), stored AS (
    INSERT INTO mailings.client (phone, operator_code, tag, timezone)
    SELECT %(phone)s, %(operator_code)s, %(tag)s, %(timezone)s FROM asked WHERE NOT erased
    RETURNING client_id AS id, phone, operator_code, tag, timezone
)
SELECT erased, stored.* FROM asked LEFT JOIN stored ON true

-- name: update
-- NULL keeps a value, except for the tag, which may be set to NULL. An erased phone changes nothing, as the returned row
-- indicates.
WITH asked AS MATERIALIZED (
    SELECT %(phone)s::text IS NOT NULL AND mailings.is_erased(%(pseudonym)s, %(key_id)s) AS erased
), stored AS (
    UPDATE mailings.client
    SET phone = coalesce(%(phone)s, phone), operator_code = coalesce(%(operator_code)s, operator_code),
        tag = CASE WHEN %(with_tag)s THEN %(tag)s ELSE tag END, timezone = coalesce(%(timezone)s, timezone),
        updated_at = now()
    FROM asked
    WHERE client_id = %(client_id)s AND NOT erased
    RETURNING client_id AS id, phone, operator_code, tag, timezone
)
SELECT erased, stored.* FROM asked LEFT JOIN stored ON true WHERE erased OR stored.id IS NOT NULL

-- name: lock
-- Lock the client that a user is about to change.
SELECT phone, operator_code, tag, timezone FROM mailings.client WHERE client_id = %(client_id)s FOR UPDATE

-- name: delete
-- Ends the waiting messages of the client. One that a worker has claimed is ended by the worker: it may have been sent.
WITH gone AS (
    DELETE FROM mailings.client WHERE client_id = %(client_id)s
    RETURNING client_id
), waiting AS (
    SELECT message_id FROM mailings.message
    WHERE client_id IN (SELECT client_id FROM gone) AND status = 'Pending'
      -- by the key (mailing_id, client_id): a separate index would make writing recipients a quarter slower
      AND mailing_id IN (SELECT mailing_id FROM mailings.mailing WHERE state = 'running')
      AND (claim IS NULL OR next_attempt_at <= now())
    ORDER BY message_id
    FOR UPDATE
), failed AS (
    UPDATE mailings.message AS m
    SET status = 'FAILED', reason = 'client deleted', claim = NULL, finished_at = now()
    FROM waiting WHERE m.message_id = waiting.message_id
)
SELECT client_id AS id FROM gone

-- name: detail
SELECT c.client_id AS id, c.phone, c.operator_code, c.tag, c.timezone, l.customer_id, l.linked_by,
       ARRAY (SELECT t.tag FROM mailings.client_tag AS t WHERE t.client_id = c.client_id ORDER BY t.tag) AS mart_tags,
       c.created_at, c.updated_at
FROM mailings.client AS c
LEFT JOIN mailings.client_customer AS l USING (client_id)
WHERE c.client_id = %(client_id)s

-- name: exists
SELECT 1 FROM mailings.client WHERE client_id = %(client_id)s

-- name: page
-- Keyset pagination by id.
SELECT c.client_id AS id, c.phone, c.operator_code, c.tag, c.timezone
FROM mailings.client AS c
WHERE c.client_id > %(after)s
  AND (%(phone)s::text IS NULL OR c.phone = %(phone)s)
  AND (%(operator_code)s::text IS NULL OR c.operator_code = %(operator_code)s)
  AND (%(tag)s::text IS NULL OR c.tag = %(tag)s)
ORDER BY c.client_id
LIMIT %(limit)s

-- name: search
-- For the admin page: a page, latest first; searches phone, operator code, tag and time zone.
SELECT c.client_id AS id, c.phone, c.operator_code, c.tag, c.timezone, c.created_at, c.updated_at
FROM mailings.client AS c
WHERE (%(words)s::text IS NULL OR c.phone LIKE %(words)s OR c.operator_code ILIKE %(words)s OR c.tag ILIKE %(words)s
       OR c.timezone ILIKE %(words)s)
  AND (%(ids)s::bigint[] IS NULL OR c.client_id = ANY (%(ids)s))
ORDER BY c.client_id DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: count_found
SELECT count(*) AS count FROM mailings.client AS c
WHERE (%(words)s::text IS NULL OR c.phone LIKE %(words)s OR c.operator_code ILIKE %(words)s OR c.tag ILIKE %(words)s
       OR c.timezone ILIKE %(words)s)

-- name: link
INSERT INTO mailings.client_customer AS l (client_id, customer_id, linked_by)
SELECT client_id, %(customer_id)s, 'api' FROM mailings.client WHERE client_id = %(client_id)s FOR KEY SHARE
ON CONFLICT (client_id) DO UPDATE
SET customer_id = EXCLUDED.customer_id, linked_by = 'api', linked_at = now()
RETURNING client_id AS id, customer_id, linked_by

-- name: linked
SELECT client_id AS id, customer_id, linked_by FROM mailings.client_customer WHERE client_id = %(client_id)s

-- name: unlink
DELETE FROM mailings.client_customer WHERE client_id = %(client_id)s
RETURNING client_id
