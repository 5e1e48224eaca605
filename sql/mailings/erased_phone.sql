-- name: phone_keys
-- The keys by which phones are looked up, in any spelling; NULL for what is not a phone.
SELECT mailings.phone_key(phone) AS key
FROM unnest(%(phones)s::text[]) WITH ORDINALITY AS written (phone, place)
ORDER BY place

-- name: of_another_secret
-- Phones that the secret with this id doesn't recognize; without a secret all of them.
SELECT count(*) FILTER (WHERE key_id IS DISTINCT FROM %(key_id)s) AS phones, count(*) AS all_phones
FROM mailings.erased_phone
