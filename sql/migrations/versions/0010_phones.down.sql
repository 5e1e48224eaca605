DROP VIEW mailings.phone_link;
DROP VIEW staging.customer_of_phone;
ALTER TABLE staging.partner_customer DROP COLUMN client_phone;
-- A spelling that two customers share was not mapped.
DELETE FROM staging.partner_customer AS c
WHERE EXISTS (SELECT FROM staging.partner_customer AS other
              WHERE other.phone = c.phone AND other.customer_id <> c.customer_id);
ALTER TABLE staging.partner_customer DROP CONSTRAINT partner_customer_pkey, ADD PRIMARY KEY (phone);
DROP FUNCTION mailings.phone_key(text);
CREATE OR REPLACE FUNCTION mailings.phone_of(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '7' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM
                            CASE WHEN written ~ '^\s*\+' THEN '^7([0-9]{10})$' ELSE '^[78]?([0-9]{10})$' END)
$$;
ALTER TABLE staging.partner_customer
    ADD COLUMN client_phone text GENERATED ALWAYS AS (mailings.phone_of(phone)) STORED;
CREATE VIEW mailings.phone_link AS
SELECT c.client_id, told.customer_id
FROM (SELECT DISTINCT client_phone, customer_id FROM staging.partner_customer WHERE client_phone IS NOT NULL) AS told
JOIN mailings.client AS c ON c.phone = told.client_phone
WHERE NOT EXISTS (SELECT FROM staging.partner_customer AS other
                  WHERE other.client_phone = told.client_phone AND other.customer_id <> told.customer_id)
  AND NOT EXISTS (SELECT FROM mailings.client_customer AS l WHERE l.client_id = c.client_id AND l.linked_by = 'api');
