DROP TABLE ops.admin_login;
DROP INDEX staging.quarantine_date_id;
DROP TABLE staging.resolution_day, staging.resolution;
ALTER TABLE staging.fetch_reading DROP COLUMN header;
