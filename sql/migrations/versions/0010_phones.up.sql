DROP VIEW mailings.phone_link;
ALTER TABLE staging.partner_customer DROP COLUMN client_phone;

-- A Russian phone as the clients have it, 7 and ten digits, of how people write it; NULL for any other. 8 is the trunk
-- prefix of calls within the country: after a + it begins another country's code. Letters are not part of a phone:
-- the digits of 7.99977722E+10, which a spreadsheet makes of a phone, would be somebody else's.
CREATE OR REPLACE FUNCTION mailings.phone_of(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN written ~ '^[-0-9+()./\s\u00a0\u2010-\u2015\u202f]*$' THEN
        '7' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM
                         CASE WHEN written ~ '^[\s\u00a0]*\+' THEN '^7([0-9]{10})$' ELSE '^[78]?([0-9]{10})$' END) END
$$;

-- The one key under which a phone is looked up, however it is written: a Russian one as above, another country's as +
-- and its digits; NULL for what is not a phone.
CREATE FUNCTION mailings.phone_key(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(mailings.phone_of(written),
                    CASE WHEN written ~ '^[\s\u00a0]*\+[-0-9()./\s\u00a0\u2010-\u2015\u202f]*$' THEN
                        '+' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM '^[1-689][0-9]{6,14}$') END)
$$;

-- A phone that two customers share has a row for each; spellings stay as they were written.
ALTER TABLE staging.partner_customer DROP CONSTRAINT partner_customer_pkey, ADD PRIMARY KEY (phone, customer_id);
-- Read once, when it is mapped: a sensor compares all phones by the minute.
ALTER TABLE staging.partner_customer
    ADD COLUMN client_phone text GENERATED ALWAYS AS (mailings.phone_key(phone)) STORED;
CREATE INDEX partner_customer_client_phone ON staging.partner_customer (client_phone);

-- The customer of each phone, for orders and mailings alike. A phone of two customers is nobody's. In joins that the
-- planner can estimate: by HAVING it takes nearly all phones for contradictory, and looks up one after the other.
CREATE VIEW staging.customer_of_phone AS
SELECT DISTINCT told.client_phone AS phone, told.customer_id
FROM staging.partner_customer AS told
WHERE told.client_phone IS NOT NULL
  AND NOT EXISTS (SELECT FROM staging.partner_customer AS other
                  WHERE other.client_phone = told.client_phone AND other.customer_id <> told.customer_id);

-- The links that the phones of partner orders give; none to a client that was linked by hand.
CREATE VIEW mailings.phone_link AS
SELECT c.client_id, told.customer_id
FROM staging.customer_of_phone AS told
JOIN mailings.client AS c USING (phone)
WHERE NOT EXISTS (SELECT FROM mailings.client_customer AS l WHERE l.client_id = c.client_id AND l.linked_by = 'api');

-- Lines that waited because the order has another spelling than the mapping are loaded again.
UPDATE staging.partner_order_event SET loaded_at = NULL
WHERE message_id IN (SELECT message_id FROM staging.partner_order_quarantine);
