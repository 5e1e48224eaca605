-- name: is_writable
-- A standby and a read-only session accept no writes, nor does a table without the right to.
SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege(%(table)s, 'INSERT') AS writable
