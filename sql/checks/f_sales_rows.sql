-- Find mart rows that break a row rule; three checks in one pass. statuses: every row is shipped or refunded. signs:
-- refunded rows are not above zero, shipped rows not below (legacy rows are exempt). legacy_rows_shipped: rows from
-- before the statuses are all shipped.
-- name: offending
SELECT rule AS check_name, date_id, count(*) AS offending, min(example) AS example
FROM (
    SELECT id, date_id, status, amount, source,
           (status IN ('shipped', 'refunded')) IS NOT TRUE AS status_is_wrong,
           source <> 'legacy' AND CASE status WHEN 'refunded' THEN quantity <= 0 AND amount <= 0
                                              ELSE quantity >= 0 AND amount >= 0 END IS NOT TRUE AS sign_is_wrong,
           source = 'legacy' AND status <> 'shipped' AS is_no_legacy
    FROM mart.f_sales
    WHERE date_id BETWEEN %(first_date_id)s AND %(last_date_id)s
) AS f
CROSS JOIN LATERAL (VALUES ('statuses', status_is_wrong, coalesce(status, 'NULL')),
                           ('signs', sign_is_wrong, format('id %%s: %%s %%s', id, status, amount)),
                           ('legacy_rows_shipped', is_no_legacy, format('id %%s: %%s', id, status))
                   ) AS broken (rule, is_broken, example)
WHERE (status_is_wrong OR sign_is_wrong OR is_no_legacy) AND is_broken
GROUP BY rule, date_id
ORDER BY rule, date_id
