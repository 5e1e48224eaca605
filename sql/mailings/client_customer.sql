-- name: exclude_other_writers
-- Serialize runs. An advisory lock instead of a table lock: the service concurrently deletes clients with their links and
-- tags.
SELECT pg_advisory_xact_lock(7205007)

-- name: fingerprint
-- Fingerprint of the wanted links, to detect changes since the last run. A sum, which is independent of the order.
SELECT count(*) || '.' || coalesce(sum(hashint8extended(client_id, customer_id)), 0) AS links
FROM (
    SELECT client_id, customer_id FROM mailings.phone_link
    UNION ALL
    SELECT client_id, customer_id FROM mailings.client_customer WHERE linked_by = 'api'
) AS wanted

-- name: take_links
CREATE TEMP TABLE wanted_link ON COMMIT DROP AS
SELECT client_id, customer_id, 'phone' AS linked_by FROM mailings.phone_link
UNION ALL
SELECT client_id, customer_id, linked_by FROM mailings.client_customer WHERE linked_by = 'api'

-- name: compare_links
-- Compare present and wanted links before anything is written: a statement that reads the table it fills slows down with
-- each row. customer_id is NULL if the phone no longer belongs to a customer.
CREATE TEMP TABLE link_change ON COMMIT DROP AS
SELECT client_id, w.customer_id
FROM wanted_link AS w
FULL JOIN mailings.client_customer AS l USING (client_id)
WHERE w.customer_id IS DISTINCT FROM l.customer_id

-- name: hold_clients
-- Lock the clients to be changed until the commit. Locked in order, before the first row is written, so that a deletion by
-- the service (first client, then tags) waits here instead of causing a deadlock.
SELECT client_id FROM mailings.client
WHERE client_id IN (SELECT client_id FROM link_change UNION SELECT client_id FROM tag_change)
ORDER BY client_id
FOR KEY SHARE

-- name: unlink
-- Links set manually are never changed.
DELETE FROM mailings.client_customer AS l
USING link_change AS c
WHERE c.client_id = l.client_id AND c.customer_id IS NULL AND l.linked_by = 'phone'

-- name: link
INSERT INTO mailings.client_customer AS l (client_id, customer_id, linked_by)
SELECT c.client_id, c.customer_id, 'phone'
FROM link_change AS c
JOIN mailings.client USING (client_id)
WHERE c.customer_id IS NOT NULL
ON CONFLICT (client_id) DO UPDATE
SET customer_id = EXCLUDED.customer_id, linked_at = now()
WHERE l.linked_by = 'phone'

-- name: summary
-- Counts linked and unlinked clients. A phone of two customers is never linked.
SELECT clients, linked_by_phone, linked_by_api, clients - linked_by_phone - linked_by_api AS unlinked_clients,
       (SELECT count(*) FROM mart.d_customer AS d
        WHERE NOT EXISTS (SELECT FROM mailings.client_customer AS l WHERE l.customer_id = d.customer_id))
           AS unlinked_customers,
       (SELECT count(*) FROM staging.partner_customer WHERE client_phone IS NULL) AS phones_not_understood,
       (SELECT count(*) FROM (SELECT FROM staging.partner_customer WHERE client_phone IS NOT NULL GROUP BY client_phone
                              HAVING min(customer_id) <> max(customer_id)) AS of_two) AS phones_of_two_customers
FROM (SELECT count(*) AS clients FROM mailings.client) AS all_clients,
     (SELECT count(*) FILTER (WHERE linked_by = 'phone') AS linked_by_phone,
             count(*) FILTER (WHERE linked_by = 'api') AS linked_by_api
      FROM mailings.client_customer) AS links
