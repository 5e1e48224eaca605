-- The files of the lake stay where they are; without the catalog they are found by nobody, and may be deleted.
DROP TABLE lake.iceberg_tables, lake.iceberg_namespace_properties;
-- A shop's database may have had a schema of this name, with tables in it.
DO $schema$
BEGIN
    DROP SCHEMA lake;
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END
$schema$;
