-- The files and their manifests stay where they are; only the warehouse forgets them.
DROP TABLE staging.price_log, staging.user_activity_log, staging.custom_research, staging.user_orders_log,
    staging.staged_day, staging.quarantine, staging.fetch_day, staging.fetch_reading, raw.fetch, raw.delivery;
DROP SEQUENCE raw.fetch_number;
DROP SCHEMA staging;
DROP SCHEMA raw;
