-- name: upsert
-- The latest name by event time wins; an empty name never replaces another.
INSERT INTO mart.d_customer AS d (customer_id, first_name, last_name, name_as_of)
SELECT DISTINCT ON (id) id, first, second, CASE WHEN first || second <> '' THEN last_seen END
FROM staging.name
WHERE dimension = 'd_customer' AND id IN (SELECT id FROM named WHERE dimension = 'd_customer')
ORDER BY id, (first || second <> '') DESC, last_seen DESC, loaded_at DESC, last_line DESC
ON CONFLICT (customer_id) DO UPDATE
SET first_name = EXCLUDED.first_name, last_name = EXCLUDED.last_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.first_name || EXCLUDED.last_name <> ''
  AND (d.first_name, d.last_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.first_name, EXCLUDED.last_name, EXCLUDED.name_as_of)
