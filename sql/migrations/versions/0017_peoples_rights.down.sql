CREATE OR REPLACE FUNCTION mailings.phone_key(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(mailings.phone_of(written),
                    CASE WHEN written ~ '^[\s\u00a0]*\+[-0-9()./\s\u00a0\u2010-\u2015\u202f]*$' THEN
                        '+' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM '^[1-689][0-9]{6,14}$') END)
$$;
DROP FUNCTION mailings.is_erased(text, text);
DROP TABLE mailings.erased_phone;
DROP TABLE staging.erased_customer;
CREATE OR REPLACE FUNCTION mailings.recipients(operator_code_filter text, tag_filter text)
RETURNS TABLE (client_id bigint) LANGUAGE sql STABLE AS $$
    SELECT c.client_id
    FROM mailings.client AS c
    WHERE (operator_code_filter IS NULL OR c.operator_code = operator_code_filter)
      AND (tag_filter IS NULL OR c.tag = tag_filter OR c.client_id IN (
              SELECT t.client_id FROM mailings.client_tag AS t WHERE t.tag = tag_filter))
$$;
DROP TABLE mailings.suppression;
