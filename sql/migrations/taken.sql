-- Find foreign objects with names that a migration is about to create, with the statement that renames each.
-- `wanted`: [{kind, schema, name, table, adopts}]; `adopts` are the relkinds that the migration takes over as they are.

-- name: taken
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(%(wanted)s)
        AS w (kind text, "schema" text, "name" text, "table" text, adopts text)
), taken AS (
    -- Tables, views, sequences and indexes share their names.
    SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
                          WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'f' THEN 'foreign table'
                          WHEN 'c' THEN 'type' ELSE 'table' END AS kind,
           format('%%I.%%I', w.schema, w.name) AS called, NULL AS relation, w.name
    FROM wanted AS w
    JOIN pg_namespace AS n ON n.nspname = w.schema
    JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name
    WHERE w.kind = 'relation' AND strpos(w.adopts, c.relkind::text) = 0
    UNION ALL
    -- Tables and views are types too: row types of relations are reported above, and array types are renamed by PostgreSQL.
    SELECT CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, format('%%I.%%I', w.schema, w.name), NULL, w.name
    FROM wanted AS w
    JOIN pg_namespace AS n ON n.nspname = w.schema
    JOIN pg_type AS t ON t.typnamespace = n.oid AND t.typname = w.name AND t.typrelid = 0 AND t.typcategory <> 'A'
    WHERE w.kind IN ('relation', 'type')
    UNION ALL
    SELECT 'routine', p.oid::regprocedure::text, NULL, w.name
    FROM wanted AS w
    JOIN pg_namespace AS n ON n.nspname = w.schema
    JOIN pg_proc AS p ON p.pronamespace = n.oid AND p.proname = w.name
    WHERE w.kind = 'routine'
    UNION ALL
    SELECT 'column', format('%%I.%%I.%%I', w.schema, w.table, w.name), format('%%I.%%I', w.schema, w.table), w.name
    FROM wanted AS w
    JOIN pg_attribute AS a ON a.attrelid = to_regclass(format('%%I.%%I', w.schema, w.table)) AND a.attname = w.name
         AND a.attnum > 0 AND NOT a.attisdropped
    WHERE w.kind = 'column'
    UNION ALL
    SELECT 'constraint', format('%%I.%%I.%%I', w.schema, w.table, w.name), format('%%I.%%I', w.schema, w.table), w.name
    FROM wanted AS w
    JOIN pg_constraint AS k ON k.conrelid = to_regclass(format('%%I.%%I', w.schema, w.table)) AND k.conname = w.name
    WHERE w.kind = 'constraint'
)
SELECT kind || ' ' || called AS object,
       CASE WHEN relation IS NULL THEN format('ALTER %%s %%s RENAME TO %%I;', upper(kind), called, name || '_before')
            ELSE format('ALTER TABLE %%s RENAME %%s %%I TO %%I;', relation, upper(kind), name, name || '_before') END
           AS statement
FROM taken
-- Columns of a table that has to be renamed anyway are not reported.
WHERE relation IS NULL OR relation NOT IN (SELECT called FROM taken WHERE kind IN ('table', 'view', 'materialized view'))
ORDER BY object;
