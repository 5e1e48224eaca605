-- name: is_writable
-- False on a standby, in a read-only session, and without the privileges on the tables.
SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege(%(table)s, 'INSERT') AS writable
