-- name: upsert
-- The latest name by event time wins; an empty name never replaces another.
INSERT INTO mart.d_item AS d (item_id, item_name, name_as_of)
SELECT DISTINCT ON (id) id, first, CASE WHEN first <> '' THEN last_seen END
FROM staging.name
WHERE dimension = 'd_item' AND id IN (SELECT id FROM named WHERE dimension = 'd_item')
ORDER BY id, (first <> '') DESC, last_seen DESC, loaded_at DESC, last_line DESC
ON CONFLICT (item_id) DO UPDATE
SET item_name = EXCLUDED.item_name, name_as_of = EXCLUDED.name_as_of
WHERE (d.name_as_of IS NULL OR EXCLUDED.name_as_of >= d.name_as_of)
  AND EXCLUDED.item_name <> ''
  AND (d.item_name, d.name_as_of) IS DISTINCT FROM (EXCLUDED.item_name, EXCLUDED.name_as_of)
