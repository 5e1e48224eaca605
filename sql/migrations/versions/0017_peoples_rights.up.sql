-- Phones that no mailing is sent to. Not a column of the client: an opt-out outlives the client and applies to one who is
-- added later.
CREATE TABLE mailings.suppression (
    phone          varchar(11) PRIMARY KEY CHECK (phone ~ '^7[0-9]{10}$'),
    source         text NOT NULL CHECK (source IN ('link', 'import', 'admin')),
    suppressed_at  timestamptz NOT NULL DEFAULT now(),
    -- For addresses of the admin page: a phone would get into the logs of proxies.
    suppression_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE
);
COMMENT ON TABLE mailings.suppression IS
    'Phones that no mailing is sent to: opted out by the link of a message, imported, or added on the admin page.';

-- As before, without suppressed phones.
CREATE OR REPLACE FUNCTION mailings.recipients(operator_code_filter text, tag_filter text)
RETURNS TABLE (client_id bigint) LANGUAGE sql STABLE AS $$
    SELECT c.client_id
    FROM mailings.client AS c
    WHERE (operator_code_filter IS NULL OR c.operator_code = operator_code_filter)
      AND (tag_filter IS NULL OR c.tag = tag_filter OR c.client_id IN (
              SELECT t.client_id FROM mailings.client_tag AS t WHERE t.tag = tag_filter))
      AND NOT EXISTS (SELECT FROM mailings.suppression AS s WHERE s.phone = c.phone)
$$;

-- Customers whose names were erased. Their names are blanked in every file that is delivered later.
CREATE TABLE staging.erased_customer (
    customer_id integer PRIMARY KEY,
    erased_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE staging.erased_customer IS
    'Customers whose names were erased by `sales-assets forget`: no load stores a name of them again.';

-- Erased phones, as pseudonyms: `erased:` and the HMAC-SHA256 of the phone's key under SALES_ERASURE_SECRET. In schema
-- mailings, which every process that stores phones can read.
CREATE TABLE mailings.erased_phone (
    pseudonym text PRIMARY KEY CHECK (pseudonym ~ '^erased:[0-9a-f]{64}$'),
    key_id    text NOT NULL,                      -- of the secret: another one would find none of these phones
    erased_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mailings.erased_phone IS
    'Pseudonyms of the phones that were erased by `sales-assets forget`: these phones are not stored again.';

-- Whether a phone was erased, by its pseudonym under the secret with this id. Fails rather than overlook an erased phone
-- because the secret is missing or another one.
CREATE FUNCTION mailings.is_erased(pseudonym text, key_id text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM mailings.erased_phone AS e WHERE e.pseudonym = is_erased.pseudonym) THEN
        RETURN true;
    ELSIF EXISTS (SELECT FROM mailings.erased_phone AS e WHERE e.key_id IS DISTINCT FROM is_erased.key_id) THEN
        RAISE EXCEPTION 'phones were erased under another SALES_ERASURE_SECRET than the one that is set here'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Set SALES_ERASURE_SECRET to the value that `sales-assets forget` used.';
    END IF;
    RETURN false;
END
$$;

-- A pseudonym is its own key: events and mappings of an erased phone still lead to its customer.
CREATE OR REPLACE FUNCTION mailings.phone_key(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(mailings.phone_of(written),
                    CASE WHEN written ~ '^[\s\u00a0]*\+[-0-9()./\s\u00a0\u2010-\u2015\u202f]*$' THEN
                        '+' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM '^[1-689][0-9]{6,14}$')
                         WHEN written ~ '^erased:[0-9a-f]{64}$' THEN written END)
$$;
