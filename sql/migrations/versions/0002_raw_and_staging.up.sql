CREATE SCHEMA IF NOT EXISTS raw;
CREATE SCHEMA IF NOT EXISTS staging;

-- What the report API said: one row per report and per asked increment, never edited.
CREATE TABLE raw.delivery (
    delivery_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('report', 'increment')),
    first_day    date NOT NULL,               -- an increment's day stands in both
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

-- Kept fetches: one row per file that was delivered whole. The file itself lies in the raw files under `path`.
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

-- What reading a kept fetch showed. A fetch has a row once it was read; `failed` ones are never chosen.
CREATE TABLE staging.fetch_reading (
    fetch_id         bigint PRIMARY KEY REFERENCES raw.fetch,
    revision         integer NOT NULL DEFAULT 1,   -- counts readings: a replay reads the fetch again
    verdict          text NOT NULL CHECK (verdict IN ('usable', 'failed')),
    reason           text,
    has_status       boolean NOT NULL DEFAULT false,
    extra_columns    text[] NOT NULL DEFAULT '{}',
    lines            bigint NOT NULL DEFAULT 0,    -- = kept + repeats + bad
    kept             bigint NOT NULL DEFAULT 0,
    repeats          bigint NOT NULL DEFAULT 0,
    bad              bigint NOT NULL DEFAULT 0,
    before_first_day bigint NOT NULL DEFAULT 0,    -- of the kept: lines that no partition asks for
    outside_period   bigint NOT NULL DEFAULT 0,    -- of the bad: lines of days that the fetch does not cover
    read_at          timestamptz NOT NULL DEFAULT now(),
    run_id           text
);

-- The same per day, for `why`, the metadata and the check on shrinking days.
CREATE TABLE staging.fetch_day (
    fetch_id   bigint NOT NULL REFERENCES raw.fetch,
    date_id    integer NOT NULL,
    kept       bigint NOT NULL,
    repeats    bigint NOT NULL,
    bad        bigint NOT NULL,
    PRIMARY KEY (fetch_id, date_id)
);

-- Lines that broke a rule. They stay here for good; `state` says what became of them.
CREATE TABLE staging.quarantine (
    quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fetch_id       bigint NOT NULL REFERENCES raw.fetch,
    line_no        bigint NOT NULL,
    date_id        integer,                        -- unknown where the date itself is bad
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

-- Which fetch a day in a staging table was taken from. A day without a row was never staged.
CREATE TABLE staging.staged_day (
    file      text NOT NULL,
    date_id   integer NOT NULL,
    fetch_id  bigint NOT NULL REFERENCES raw.fetch,
    revision  integer NOT NULL,
    rows      bigint NOT NULL,
    former_rows bigint,                            -- of the fetch that it replaced
    staged_at timestamptz NOT NULL DEFAULT now(),
    run_id    text,
    PRIMARY KEY (file, date_id)
);

-- The chosen lines of each day, a line once, typed. Positive as in the file: the mart has the sign.
-- No primary key: uniqueness of (date_id, uniq_id, status) is settled before the lines come here and asked again by a
-- check; an index on it would cost a quarter of the load.
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
-- BRIN, because whole days are written and removed: its blocks are told apart by day, and keeping it costs a load
-- nothing, where a B-tree costs as much as the rows. New blocks are summed up at the end of each load.
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

-- The price list in force on a day. The file has no date: a report's list stands for every day of its period.
CREATE TABLE staging.price_log (
    date_id   integer NOT NULL,
    item_name text NOT NULL,
    price     numeric(10, 2) NOT NULL,
    fetch_id  bigint NOT NULL,
    line_no   bigint NOT NULL
);
CREATE INDEX price_log_date_id ON staging.price_log (date_id);
