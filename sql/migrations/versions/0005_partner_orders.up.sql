CREATE SCHEMA IF NOT EXISTS orders;

-- A requested order and its state. Stored before the partner is called. Of the client only the phone is stored, as the key
-- of the customer mapping; name and e-mail are only sent to the partner.
CREATE TABLE orders.partner_order (
    order_id          bigint PRIMARY KEY,
    body_hash         text NOT NULL,              -- SHA-256 of the whole request: the same order_id, the same body
    order_date        timestamptz NOT NULL,
    order_type        smallint NOT NULL CHECK (order_type IN (1, 2)),   -- 1 pre-order, 2 reservation
    their_pharmacy_id text NOT NULL,
    phone             text NOT NULL,
    lines             jsonb NOT NULL,             -- [{line_no, their_id, price, count, part}]
    state             text NOT NULL CHECK (state IN
                          ('creating',            -- the intent; a call is in progress, or its process died
                           'accepted',            -- the partner has it, as their_order_id
                           'rejected',            -- the partner refused it for its items
                           'failed',              -- certainly not created; a repeated request tries again
                           'unknown')),           -- perhaps created: the reconciler looks it up
    uncertain         boolean NOT NULL DEFAULT false,   -- an earlier create has an unknown outcome
    their_order_id    text CHECK ((state = 'accepted') <= (their_order_id IS NOT NULL)),
    refusal           jsonb,
    claim             text,                       -- the process with a call in progress, and when its claim expires
    claimed_until     timestamptz,
    status_id         integer,                    -- last seen: 0 created, 1 on its way, 2 done, 3 cancelled, 4 in shop
    cancel_asked_at   timestamptz,                -- the intent of a cancel whose outcome is not known yet
    cancelled_at      timestamptz,
    checks            integer NOT NULL DEFAULT 0, -- number of lookups by the reconciler
    next_check_at     timestamptz,                -- next lookup; NULL: nothing to resolve
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX partner_order_to_check ON orders.partner_order (next_check_at) WHERE next_check_at IS NOT NULL;

-- Events, written in the same commit as the state change. Rows are published to the broker until confirmed, and kept.
CREATE TABLE orders.outbox (
    event_no     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id   text NOT NULL UNIQUE,
    order_id     bigint NOT NULL REFERENCES orders.partner_order,
    kind         text NOT NULL CHECK (kind IN ('accepted', 'done', 'cancelled')),
    project_id   integer NOT NULL,
    kodpost      integer NOT NULL,
    dated_at     timestamptz NOT NULL,            -- the moment that decides the event's day
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX outbox_waiting ON orders.outbox (order_id, event_no) WHERE published_at IS NULL;
CREATE INDEX outbox_waiting_first ON orders.outbox (event_no) WHERE published_at IS NULL;
CREATE INDEX outbox_dated_at ON orders.outbox (dated_at);

-- Mapping of the partner's ids to ours.
CREATE TABLE staging.partner_item (
    kodpost  integer NOT NULL,
    their_id text NOT NULL,
    item_id  integer NOT NULL,
    PRIMARY KEY (kodpost, their_id)
);
CREATE TABLE staging.partner_pharmacy (
    kodpost           integer NOT NULL,
    their_pharmacy_id text NOT NULL,
    city_id           integer NOT NULL,
    PRIMARY KEY (kodpost, their_pharmacy_id)
);
CREATE TABLE staging.partner_customer (
    phone       text PRIMARY KEY,
    customer_id integer NOT NULL
);

-- Events as they came out of the queue, each once.
CREATE TABLE staging.partner_order_event (
    message_id        text PRIMARY KEY,
    kind              text NOT NULL CHECK (kind IN ('accepted', 'done', 'cancelled')),
    project_id        integer NOT NULL,
    kodpost           integer NOT NULL,
    order_id          bigint NOT NULL,
    their_order_id    text NOT NULL,
    their_pharmacy_id text NOT NULL,
    phone             text NOT NULL,
    dated_at          timestamptz NOT NULL,
    lines             jsonb NOT NULL,
    received_at       timestamptz NOT NULL DEFAULT now(),
    loaded_at         timestamptz                 -- when its day was last loaded with it; NULL: the sensor requests it
);
CREATE INDEX partner_order_event_dated_at ON staging.partner_order_event (dated_at);
CREATE INDEX partner_order_event_order ON staging.partner_order_event (project_id, order_id);
CREATE INDEX partner_order_event_new ON staging.partner_order_event (dated_at) WHERE loaded_at IS NULL;

-- Order lines made from the events of a day. Positive, as in staging.user_orders_log: the mart applies the sign.
CREATE TABLE staging.partner_order_line (
    uniq_id     text PRIMARY KEY,                 -- of project, order, line and status: a sale or refund is one
    date_id     integer NOT NULL,
    status      text NOT NULL CHECK (status IN ('shipped', 'refunded')),
    message_id  text NOT NULL,
    project_id  integer NOT NULL,
    order_id    bigint NOT NULL,
    line_no     integer NOT NULL,
    item_id     integer NOT NULL,
    customer_id integer NOT NULL,
    city_id     integer NOT NULL,
    quantity    numeric(10, 2) NOT NULL CHECK (quantity >= 0),
    amount      numeric(10, 2) NOT NULL CHECK (amount >= 0),
    sale_id     bigint NOT NULL UNIQUE            -- mart.f_sales.id of the row made from this line
);
CREATE INDEX partner_order_line_date_id ON staging.partner_order_line (date_id);
CREATE INDEX partner_order_line_order ON staging.partner_order_line (project_id, order_id);

-- Order lines that could not be loaded, with the reason. Replaced with their day.
CREATE TABLE staging.partner_order_quarantine (
    message_id text NOT NULL,
    line_no    integer NOT NULL,
    status     text NOT NULL,
    date_id    integer NOT NULL,
    reason     text NOT NULL,
    PRIMARY KEY (message_id, line_no, status)
);
CREATE INDEX partner_order_quarantine_date_id ON staging.partner_order_quarantine (date_id);

-- Rows of the mart now also lead back to order lines.
CREATE OR REPLACE VIEW mart.f_sales_lines AS
SELECT f.id, f.date_id, f.status, f.source, coalesce(s.uniq_id, p.uniq_id) AS uniq_id, s.fetch_id,
       coalesce(r.kind, CASE WHEN p.uniq_id IS NOT NULL THEN 'partner order' END) AS fetch_kind,
       coalesce(r.path, 'partner order ' || p.order_id || ', line ' || p.line_no || ', event ' || p.message_id) AS file,
       coalesce(s.line_no, p.line_no) AS line_no
FROM mart.f_sales AS f
LEFT JOIN staging.user_orders_log AS s
       ON s.sale_id = f.id AND s.date_id = f.date_id AND f.source = 'report_api'
LEFT JOIN raw.fetch AS r ON r.fetch_id = s.fetch_id
LEFT JOIN staging.partner_order_line AS p
       ON p.sale_id = f.id AND f.source = 'partner_orders';
