-- Fetches, files and resolutions stay. The code of before tells the latest delivery by the fetch number, and keeps
-- repeated contents once more when their day is loaded again.
ALTER TABLE staging.quarantine DROP COLUMN inherited_from;
DROP INDEX staging.quarantine_text, raw.fetch_contents;
DROP TABLE raw.file_delivery;
