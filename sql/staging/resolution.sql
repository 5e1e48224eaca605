-- name: record
INSERT INTO staging.resolution (quarantine_id, action, corrected_text, resolved_by, via)
SELECT n.quarantine_id, n.action, n.corrected_text, %(resolved_by)s, %(via)s
FROM unnest(%(quarantine_ids)s::bigint[], %(actions)s::text[], %(texts)s::text[])
         AS n (quarantine_id, action, corrected_text)
ORDER BY n.quarantine_id
RETURNING resolution_id, quarantine_id

-- name: history
SELECT resolution_id, action, corrected_text, resolved_by, via, resolved_at
FROM staging.resolution
WHERE quarantine_id = %(quarantine_id)s OR quarantine_id = %(inherited_from)s
ORDER BY resolution_id

-- name: count
SELECT count(*) AS count FROM staging.resolution

-- name: page
-- Resolutions, latest first.
SELECT r.resolution_id, r.quarantine_id, r.action, r.resolved_by, r.via, r.resolved_at, f.file, f.path, q.line_no,
       q.state, q.reason
FROM staging.resolution AS r
JOIN staging.quarantine AS q USING (quarantine_id)
JOIN raw.fetch AS f USING (fetch_id)
ORDER BY r.resolution_id DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: audit_count
SELECT (SELECT count(*) FROM staging.resolution) + (SELECT count(*) FROM ops.admin_login)
           + (SELECT count(*) FROM ops.admin_change) AS count

-- name: audit
-- Everything that users did, latest first. The parts are limited before they are sorted together.
SELECT at, who, what, quarantine_id, detail
FROM (
    (SELECT resolved_at AS at, resolved_by AS who, action || ' (' || via || ')' AS what, quarantine_id,
            corrected_text AS detail
     FROM staging.resolution ORDER BY resolution_id DESC LIMIT %(limit)s + %(offset)s)
    UNION ALL
    (SELECT at, user_name, event, NULL, NULL FROM ops.admin_login ORDER BY login_id DESC LIMIT %(limit)s + %(offset)s)
    UNION ALL
    (SELECT at, user_name, action || ' ' || object || ' ' || object_id, NULL, detail::text
     FROM ops.admin_change ORDER BY change_id DESC LIMIT %(limit)s + %(offset)s)
) AS everything
ORDER BY at DESC
LIMIT %(limit)s OFFSET %(offset)s
