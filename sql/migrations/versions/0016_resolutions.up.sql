-- The columns of a file as delivered: a corrected line is checked against them before it is stored.
ALTER TABLE staging.fetch_reading ADD COLUMN header text[];
COMMENT ON COLUMN staging.fetch_reading.header IS
    'Columns of the file in its order; NULL: the file can''t be read, or was parsed before they were recorded.';

-- Who resolved which rejected row, when and how. Never edited.
CREATE TABLE staging.resolution (
    resolution_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    quarantine_id  bigint NOT NULL REFERENCES staging.quarantine,
    action         text NOT NULL CHECK (action IN ('correct', 'discard', 'parse again')),
    corrected_text text,
    resolved_by    text NOT NULL,
    via            text NOT NULL CHECK (via IN ('command', 'page')),
    resolved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((action = 'correct') = (corrected_text IS NOT NULL))
);
CREATE INDEX resolution_row ON staging.resolution (quarantine_id);
COMMENT ON TABLE staging.resolution IS 'Resolutions of rejected rows: who, when, what. Never edited.';
COMMENT ON COLUMN staging.resolution.resolved_by IS
    'Name of a user of the admin pages, or of the operating system''s user who ran the command.';

-- The days that a resolution can change, with the totals of mart.f_sales before and after. A row without `loaded_at` is
-- requested by the sensor resolved_days.
CREATE TABLE staging.resolution_day (
    resolution_id   bigint NOT NULL REFERENCES staging.resolution,
    fetch_id        bigint NOT NULL REFERENCES raw.fetch,   -- the file of the row, or of one that inherits its resolution
    date_id         integer NOT NULL,
    rows_before     bigint NOT NULL,
    quantity_before numeric NOT NULL,
    amount_before   numeric NOT NULL,
    started_at      timestamptz,                            -- of the latest load of the day
    run_id          text,
    failure         text,                                   -- why that load failed for the day
    loaded_at       timestamptz,
    rows_after      bigint,
    quantity_after  numeric,
    amount_after    numeric,
    PRIMARY KEY (resolution_id, fetch_id, date_id)
);
CREATE INDEX resolution_day_open ON staging.resolution_day (date_id) WHERE loaded_at IS NULL;
COMMENT ON TABLE staging.resolution_day IS
    'Days that a resolution can change, with the totals of mart.f_sales before and after, and the progress of their loads.';

-- The list of rejected rows is filtered by day.
CREATE INDEX quarantine_date_id ON staging.quarantine (date_id);

-- Logins of the admin pages. Never edited.
CREATE TABLE ops.admin_login (
    login_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_name text NOT NULL,
    event     text NOT NULL CHECK (event IN ('login', 'refused', 'logout')),
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX admin_login_user ON ops.admin_login (user_name, login_id);
COMMENT ON TABLE ops.admin_login IS 'Logins of users of the admin pages, and attempts with a wrong password. Never edited.';
