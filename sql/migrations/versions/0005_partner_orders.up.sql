CREATE SCHEMA IF NOT EXISTS orders;

-- An order as it was asked for, and what became of it. Stored before the partner is called. Of the client only the
-- phone is kept, as the key of the customer mapping; name and e-mail go to the partner and nowhere else.
CREATE TABLE orders.partner_order (
    order_id          bigint PRIMARY KEY,
    body_hash         text NOT NULL,              -- SHA-256 of the whole request: the same order_id, the same body
    order_date        timestamptz NOT NULL,
    order_type        smallint NOT NULL CHECK (order_type IN (1, 2)),   -- 1 pre-order, 2 reservation
    their_pharmacy_id text NOT NULL,
    phone             text NOT NULL,
    lines             jsonb NOT NULL,             -- [{line_no, their_id, price, count, part}]
    state             text NOT NULL CHECK (state IN
                          ('creating',            -- the intent; a process is at it, or died over it
                           'accepted',            -- the partner has it, as their_order_id
                           'rejected',            -- the partner refused it for its items
                           'failed',              -- it is surely not there; the same request tries again
                           'unknown')),           -- it may be there: the reconciler looks
    uncertain         boolean NOT NULL DEFAULT false,   -- a create of unknown outcome lies behind
    their_order_id    text CHECK ((state = 'accepted') <= (their_order_id IS NOT NULL)),
    refusal           jsonb,
    claim             text,                       -- the process that is at it, and until when it is believed to be
    claimed_until     timestamptz,
    status_id         integer,                    -- last seen: 0 created, 1 on its way, 2 done, 3 cancelled, 4 in shop
    cancel_asked_at   timestamptz,                -- the intent of a cancel whose outcome is not known yet
    cancelled_at      timestamptz,
    checks            integer NOT NULL DEFAULT 0, -- how often the reconciler has looked
    next_check_at     timestamptz,                -- when it looks again; NULL: nothing to settle
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX partner_order_to_check ON orders.partner_order (next_check_at) WHERE next_check_at IS NOT NULL;

-- Events, written in the commit that makes them true. A row leaves for the broker once it is confirmed, and stays.
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

-- What the partner's ids are called here.
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
    loaded_at         timestamptz                 -- when its day was last made with it; NULL: the sensor asks for it
);
CREATE INDEX partner_order_event_dated_at ON staging.partner_order_event (dated_at);
CREATE INDEX partner_order_event_order ON staging.partner_order_event (project_id, order_id);
CREATE INDEX partner_order_event_new ON staging.partner_order_event (dated_at) WHERE loaded_at IS NULL;

-- The lines that the events of a day make. Positive, as in staging.user_orders_log: the mart puts on the sign.
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

-- Lines that could not be taken to the mart, with the reason. Made anew with their day.
CREATE TABLE staging.partner_order_quarantine (
    message_id text NOT NULL,
    line_no    integer NOT NULL,
    status     text NOT NULL,
    date_id    integer NOT NULL,
    reason     text NOT NULL,
    PRIMARY KEY (message_id, line_no, status)
);
CREATE INDEX partner_order_quarantine_date_id ON staging.partner_order_quarantine (date_id);

-- The way back from a row of the mart now also leads to a line of an order.
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
