DROP VIEW mailings.phone_link;
ALTER TABLE staging.partner_customer DROP COLUMN client_phone;

-- Normalize a Russian phone to 7 and ten digits, as the clients have it; NULL for any other. 8 is the trunk prefix of
-- domestic calls; after a + it begins another country's code. Letters are not allowed: the digits of 7.99977722E+10, as
-- spreadsheets write a phone, would be another phone.
CREATE OR REPLACE FUNCTION mailings.phone_of(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN written ~ '^[-0-9+()./\s\u00a0\u2010-\u2015\u202f]*$' THEN
        '7' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM
                         CASE WHEN written ~ '^[\s\u00a0]*\+' THEN '^7([0-9]{10})$' ELSE '^[78]?([0-9]{10})$' END) END
$$;

-- The key by which a phone is looked up, independent of its spelling: a Russian one as above, that of another country as +
-- and its digits; NULL if it is not a phone.
CREATE FUNCTION mailings.phone_key(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(mailings.phone_of(written),
                    CASE WHEN written ~ '^[\s\u00a0]*\+[-0-9()./\s\u00a0\u2010-\u2015\u202f]*$' THEN
                        '+' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM '^[1-689][0-9]{6,14}$') END)
$$;

-- A phone that two customers share has a row for each; spellings are kept.
ALTER TABLE staging.partner_customer DROP CONSTRAINT partner_customer_pkey, ADD PRIMARY KEY (phone, customer_id);
-- Computed once, when a phone is mapped: a sensor compares all phones every minute.
ALTER TABLE staging.partner_customer
    ADD COLUMN client_phone text GENERATED ALWAYS AS (mailings.phone_key(phone)) STORED;
CREATE INDEX partner_customer_client_phone ON staging.partner_customer (client_phone);

-- The customer of each phone, for orders and mailings. A phone of two customers is left out. Uses joins that the planner
-- can estimate: with HAVING it assumes that nearly all phones are ambiguous, and looks up one after the other.
CREATE VIEW staging.customer_of_phone AS
SELECT DISTINCT told.client_phone AS phone, told.customer_id
FROM staging.partner_customer AS told
WHERE told.client_phone IS NOT NULL
  AND NOT EXISTS (SELECT FROM staging.partner_customer AS other
                  WHERE other.client_phone = told.client_phone AND other.customer_id <> told.customer_id);

-- Links by the phones of partner orders, except for clients linked by hand.
CREATE VIEW mailings.phone_link AS
SELECT c.client_id, told.customer_id
FROM staging.customer_of_phone AS told
JOIN mailings.client AS c USING (phone)
WHERE NOT EXISTS (SELECT FROM mailings.client_customer AS l WHERE l.client_id = c.client_id AND l.linked_by = 'api');

-- Lines that waited because the order has another spelling than the mapping are loaded again.
UPDATE staging.partner_order_event SET loaded_at = NULL
WHERE message_id IN (SELECT message_id FROM staging.partner_order_quarantine);
