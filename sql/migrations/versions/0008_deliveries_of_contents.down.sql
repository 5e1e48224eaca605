-- Fetches, files and resolutions are kept. The earlier code takes the greatest fetch number as the latest delivery, and
-- stores repeated contents again when their day is loaded again.
ALTER TABLE staging.quarantine DROP COLUMN inherited_from;
DROP INDEX staging.quarantine_text, raw.fetch_contents;
DROP TABLE raw.file_delivery;
