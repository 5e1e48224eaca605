-- Check whether more than half of the clients are not linked to a customer, and so can't get tags from the marts.
-- name: offending
SELECT to_char(now() AT TIME ZONE %(timezone)s, 'YYYYMMDD')::integer AS date_id, count(*) - count(l.client_id) AS offending,
       format('%%s of %%s clients', count(*) - count(l.client_id), count(*)) AS example
FROM mailings.client AS c
LEFT JOIN mailings.client_customer AS l USING (client_id)
HAVING (count(*) - count(l.client_id)) * 2 > count(*)
