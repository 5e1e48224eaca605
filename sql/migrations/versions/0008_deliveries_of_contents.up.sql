DO $examine$
DECLARE
    other text;
BEGIN
    SELECT oid::regclass::text INTO other FROM pg_class
    WHERE relnamespace = 'raw'::regnamespace AND relname = 'file_delivery';
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'a table of another writer has a name that the platform needs: %', other
            USING HINT = 'Move it aside: ALTER TABLE raw.file_delivery RENAME TO file_delivery_before;';
    END IF;
END
$examine$;

-- Every successful delivery of a file. raw.fetch has the contents; the same contents may be delivered repeatedly, and the
-- latest delivery is selected. A first delivery has the number of its fetch.
CREATE TABLE raw.file_delivery (
    number        bigint PRIMARY KEY DEFAULT nextval('raw.fetch_number'),
    delivery_id   bigint NOT NULL REFERENCES raw.delivery,
    fetch_id      bigint NOT NULL REFERENCES raw.fetch,
    url           text NOT NULL,                   -- without its query: links are signed
    etag          text,
    last_modified text,
    delivered_at  timestamptz NOT NULL
);
CREATE INDEX file_delivery_fetch ON raw.file_delivery (fetch_id, number);
CREATE INDEX file_delivery_delivery ON raw.file_delivery (delivery_id);
CREATE INDEX fetch_contents ON raw.fetch (sha256);

-- Contents that were stored several times keep their fetches: staging and the lineage of the mart refer to them.
INSERT INTO raw.file_delivery (number, delivery_id, fetch_id, url, etag, last_modified, delivered_at)
SELECT fetch_id, delivery_id, fetch_id, url, etag, last_modified, fetched_at FROM raw.fetch;

ALTER TABLE staging.quarantine ADD COLUMN inherited_from bigint REFERENCES staging.quarantine;
COMMENT ON COLUMN staging.quarantine.inherited_from IS
    'The very same row of other contents, whose resolution this row has; NULL: resolved by itself, or not at all.';
-- By hash: a row may be longer than an index entry can be.
CREATE INDEX quarantine_text ON staging.quarantine (hashtextextended(line_text, 0));

-- Resolutions that a repeated delivery has undone. The rows are parsed again when their days are loaded. The statement
-- is `inherit` of staging/quarantine.sql, over all rows.
WITH identified AS (
    SELECT q.quarantine_id, q.state, q.corrected_text, q.corrected_at, f.file, q.line_text,
           CASE WHEN q.date_id BETWEEN to_char(f.first_day, 'YYYYMMDD')::integer
                                   AND to_char(f.last_day, 'YYYYMMDD')::integer THEN q.date_id::text
                ELSE concat_ws(' ', f.kind, f.first_day, f.last_day, q.date_id) END AS day,
           row_number() OVER (PARTITION BY q.fetch_id, q.line_text ORDER BY q.line_no) AS occurrence
    FROM staging.quarantine AS q
    JOIN raw.fetch AS f USING (fetch_id)
    WHERE q.line_text IN (SELECT line_text FROM staging.quarantine
                          WHERE state = 'discarded' OR corrected_text IS NOT NULL)
), resolved AS (
    SELECT DISTINCT ON (file, line_text, day, occurrence) *
    FROM identified
    WHERE state = 'discarded' OR corrected_text IS NOT NULL
    ORDER BY file, line_text, day, occurrence, corrected_at DESC, quarantine_id DESC
)
UPDATE staging.quarantine AS q
SET state = CASE r.state WHEN 'discarded' THEN 'discarded' ELSE 'corrected' END,
    corrected_text = r.corrected_text, corrected_at = clock_timestamp(), inherited_from = r.quarantine_id
FROM identified AS i
JOIN resolved AS r USING (file, line_text, day, occurrence)
WHERE q.quarantine_id = i.quarantine_id AND q.state = 'open' AND q.corrected_text IS NULL;
