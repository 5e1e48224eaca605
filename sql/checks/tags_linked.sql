-- Find clients with tags from the marts that are not linked to a customer.
-- name: offending
SELECT to_char(now() AT TIME ZONE %(timezone)s, 'YYYYMMDD')::integer AS date_id, count(*) AS offending,
       min(format('client %%s: %%s', t.client_id, t.tag)) AS example
FROM mailings.client_tag AS t
LEFT JOIN mailings.client_customer AS l USING (client_id)
WHERE l.client_id IS NULL
HAVING count(*) > 0
