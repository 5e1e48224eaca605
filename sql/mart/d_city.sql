-- name: upsert
-- The latest name by event time wins; an empty name never replaces another.
INSERT INTO mart.d_city AS d (city_id, city_name, name_as_of)
SELECT DISTINCT ON (id) id, first, CASE WHEN first <> '' THEN last_seen END
FROM staging.name
WHERE dimension = 'd_city' AND id IN (SELECT id FROM named WHERE dimension = 'd_city')
ORDER BY id, (first <> '') DESC, last_seen DESC, loaded_at DESC, last_line DESC
ON CONFLICT (city_id) DO UPDATE
SET city_name = EXCLUDED.city_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.city_name <> ''
  AND (d.city_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.city_name, EXCLUDED.name_as_of)
