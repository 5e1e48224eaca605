CREATE SCHEMA IF NOT EXISTS raw;
CREATE SCHEMA IF NOT EXISTS staging;

-- Responses of the report API: one row per requested report or increment, never edited.
CREATE TABLE raw.delivery (
    delivery_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('report', 'increment')),
    first_day    date NOT NULL,               -- for an increment, both are its day
    last_day     date NOT NULL CHECK (last_day >= first_day),
    outcome      text NOT NULL CHECK (outcome IN ('delivered', 'not_found', 'failed')),
    reason       text,                        -- why not found, failed, or without order file
    report_id    text,
    increment_id text,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    run_id       text
);
CREATE INDEX delivery_day ON raw.delivery (first_day, delivery_id) WHERE kind = 'increment';

-- Fetch numbers: "latest" in docs/data-contracts/day-rules.md ("Selection") means the greatest number.
CREATE SEQUENCE raw.fetch_number;

-- Stored files: one row per completely delivered file, which is stored in the raw files under `path`.
CREATE TABLE raw.fetch (
    fetch_id      bigint PRIMARY KEY,
    delivery_id   bigint NOT NULL REFERENCES raw.delivery,
    file          text NOT NULL CHECK (file IN
                      ('user_orders_log', 'custom_research', 'user_activity_log', 'price_log')),
    kind          text NOT NULL CHECK (kind IN ('report', 'increment')),
    first_day     date NOT NULL,
    last_day      date NOT NULL,
    url           text NOT NULL,              -- without its query: links are signed
    path          text NOT NULL UNIQUE,
    sha256        text NOT NULL,
    bytes         bigint NOT NULL,
    line_count    bigint NOT NULL,            -- line ends, the header's among them
    etag          text,
    last_modified text,
    fetched_at    timestamptz NOT NULL
);
CREATE INDEX fetch_increment_day ON raw.fetch (first_day, file, fetch_id) WHERE kind = 'increment';
CREATE INDEX fetch_report ON raw.fetch (file, fetch_id) WHERE kind = 'report';

-- Parse results: one row per parsed file; `failed` ones are never selected.
CREATE TABLE staging.fetch_reading (
    fetch_id         bigint PRIMARY KEY REFERENCES raw.fetch,
    revision         integer NOT NULL DEFAULT 1,   -- counts parses: a replay parses the file again
    verdict          text NOT NULL CHECK (verdict IN ('usable', 'failed')),
    reason           text,
    has_status       boolean NOT NULL DEFAULT false,
    extra_columns    text[] NOT NULL DEFAULT '{}',
    lines            bigint NOT NULL DEFAULT 0,    -- = kept + repeats + bad
    kept             bigint NOT NULL DEFAULT 0,
    repeats          bigint NOT NULL DEFAULT 0,
    bad              bigint NOT NULL DEFAULT 0,
    before_first_day bigint NOT NULL DEFAULT 0,    -- of the kept: rows before the first partition
    outside_period   bigint NOT NULL DEFAULT 0,    -- of the bad: rows of days outside the file's period
    read_at          timestamptz NOT NULL DEFAULT now(),
    run_id           text
);

-- The same per day, for `why`, the metadata and the check `day_not_halved`.
CREATE TABLE staging.fetch_day (
    fetch_id   bigint NOT NULL REFERENCES raw.fetch,
    date_id    integer NOT NULL,
    kept       bigint NOT NULL,
    repeats    bigint NOT NULL,
    bad        bigint NOT NULL,
    PRIMARY KEY (fetch_id, date_id)
);

-- Rejected rows, kept permanently with their `state`.
CREATE TABLE staging.quarantine (
    quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fetch_id       bigint NOT NULL REFERENCES raw.fetch,
    line_no        bigint NOT NULL,
    date_id        integer,                        -- NULL if the date itself is invalid
    reason         text NOT NULL,
    line_text      text NOT NULL,
    state          text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'corrected', 'discarded', 'resolved')),
    corrected_text text,
    corrected_at   timestamptz,
    found_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (fetch_id, line_no),
    CHECK ((state = 'corrected') <= (corrected_text IS NOT NULL))
);
CREATE INDEX quarantine_open ON staging.quarantine (fetch_id) WHERE state = 'open';

-- The file from which each day in a staging table was loaded. A day without a row was never staged.
CREATE TABLE staging.staged_day (
    file      text NOT NULL,
    date_id   integer NOT NULL,
    fetch_id  bigint NOT NULL REFERENCES raw.fetch,
    revision  integer NOT NULL,
    rows      bigint NOT NULL,
    former_rows bigint,                            -- of the file that was staged before
    staged_at timestamptz NOT NULL DEFAULT now(),
    run_id    text,
    PRIMARY KEY (file, date_id)
);

-- The deduplicated, typed rows of each day's selected file. Positive as in the file: the mart applies the sign. No primary
-- key: uniqueness of (date_id, uniq_id, status) is ensured by deduplication and verified by a check; an index on it would
-- take a quarter of a load.
CREATE TABLE staging.user_orders_log (
    date_id        integer NOT NULL,
    uniq_id        text NOT NULL,
    status         text NOT NULL CHECK (status IN ('shipped', 'refunded')),
    date_time      text NOT NULL,
    city_id        integer NOT NULL,
    city_name      text NOT NULL,
    customer_id    integer NOT NULL,
    first_name     text NOT NULL,
    last_name      text NOT NULL,
    item_id        integer NOT NULL,
    item_name      text NOT NULL,
    quantity       numeric(10, 2) NOT NULL CHECK (quantity >= 0),
    payment_amount numeric(10, 2) NOT NULL CHECK (payment_amount >= 0),
    fetch_id       bigint NOT NULL,
    line_no        bigint NOT NULL,
    sale_id        bigint NOT NULL                 -- mart.f_sales.id of the row made from this line
);
-- BRIN, because whole days are written and deleted: block ranges differ by day, and maintaining it is almost free, while a
-- B-tree costs as much as the rows. New blocks are summarized at the end of each load.
CREATE INDEX user_orders_log_days ON staging.user_orders_log USING brin (date_id) WITH (pages_per_range = 32);

CREATE TABLE staging.custom_research (
    date_id     integer NOT NULL,
    date_time   text NOT NULL,
    category_id integer NOT NULL,
    geo_id      integer NOT NULL,
    sales_qty   numeric(10, 2) NOT NULL,
    sales_amt   numeric(10, 2) NOT NULL,
    fetch_id    bigint NOT NULL,
    line_no     bigint NOT NULL
);
CREATE INDEX custom_research_date_id ON staging.custom_research (date_id);

CREATE TABLE staging.user_activity_log (
    date_id     integer NOT NULL,
    uniq_id     text NOT NULL,
    date_time   text NOT NULL,
    action_id   integer NOT NULL,
    customer_id integer NOT NULL,
    quantity    numeric(10, 2) NOT NULL,
    fetch_id    bigint NOT NULL,
    line_no     bigint NOT NULL
);
CREATE INDEX user_activity_log_date_id ON staging.user_activity_log (date_id);

-- The price list of a day. The file has no date: that of a report is valid for every day of its period.
CREATE TABLE staging.price_log (
    date_id   integer NOT NULL,
    item_name text NOT NULL,
    price     numeric(10, 2) NOT NULL,
    fetch_id  bigint NOT NULL,
    line_no   bigint NOT NULL
);
CREATE INDEX price_log_date_id ON staging.price_log (date_id);
