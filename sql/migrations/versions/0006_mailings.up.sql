CREATE SCHEMA IF NOT EXISTS mailings;

CREATE TABLE mailings.client (
    client_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    phone         varchar(11) NOT NULL,           -- 7XXXXXXXXXX; two clients may have one phone
    operator_code text NOT NULL,
    tag           text,                           -- the client's own; the marts' are in client_tag
    timezone      varchar(64) NOT NULL,           -- free text; UTC if it is not an IANA zone
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX client_phone ON mailings.client (phone);

-- Links of clients to customers of the mart, by phone or by hand.
CREATE TABLE mailings.client_customer (
    client_id   bigint PRIMARY KEY REFERENCES mailings.client ON DELETE CASCADE,
    customer_id integer NOT NULL,
    linked_by   text NOT NULL CHECK (linked_by IN ('phone', 'api')),
    linked_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX client_customer_customer ON mailings.client_customer (customer_id);

-- Tags from the marts. A mailing's tag filter matches these or the client's own.
CREATE TABLE mailings.client_tag (
    client_id bigint NOT NULL REFERENCES mailings.client ON DELETE CASCADE,
    tag       text NOT NULL CHECK (tag IN ('new', 'returning', 'refunded')),
    since     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, tag)
);

CREATE TABLE mailings.mailing (
    mailing_id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text                 text NOT NULL,
    operator_code_filter text,                    -- NULL: every operator
    tag_filter           text,                    -- NULL: every tag, and none
    start_time           timestamptz NOT NULL,
    end_time             timestamptz NOT NULL CHECK (end_time >= start_time),
    send_from            time,                    -- the window of a day, in the client's zone, in which it may be sent;
    send_until           time,                    -- until before from: over midnight
    state                text NOT NULL DEFAULT 'scheduled' CHECK (state IN
                             ('scheduled',        -- may still be changed
                              'running',          -- its recipients are fixed
                              'finished')),       -- every message has its last status
    paused_at            timestamptz,             -- NULL: not paused
    asked_at             timestamptz,             -- when tasks were enqueued that no worker has started yet
    started_at           timestamptz,
    finished_at          timestamptz,
    deleted_at           timestamptz,             -- deleted for the API; kept for the marts
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CHECK ((send_from IS NULL) = (send_until IS NULL)),
    CHECK ((state = 'scheduled') = (started_at IS NULL))
);
CREATE INDEX mailing_unfinished ON mailings.mailing (start_time) WHERE state <> 'finished';
CREATE INDEX mailing_running ON mailings.mailing (mailing_id) WHERE state = 'running';
CREATE INDEX mailing_started_at ON mailings.mailing (started_at);

-- Recipients of a mailing: clients that match both filters exactly; NULL matches all. Used by the preview and the start of
-- a mailing. Plain SQL, so that PostgreSQL can inline it.
CREATE FUNCTION mailings.recipients(operator_code_filter text, tag_filter text)
RETURNS TABLE (client_id bigint) LANGUAGE sql STABLE AS $$
    SELECT c.client_id
    FROM mailings.client AS c
    WHERE (operator_code_filter IS NULL OR c.operator_code = operator_code_filter)
      AND (tag_filter IS NULL OR c.tag = tag_filter OR c.client_id IN (
              SELECT t.client_id FROM mailings.client_tag AS t WHERE t.tag = tag_filter))
$$;

-- A row per recipient, made in one statement when the mailing starts.
CREATE TABLE mailings.message (
    message_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mailing_id      bigint NOT NULL,              -- no foreign keys: 100 000 rows at once, and a client may go
    client_id       bigint NOT NULL,
    status          text NOT NULL DEFAULT 'Pending' CHECK (status IN ('Pending', 'SENT', 'FAILED', 'TIMEOUT')),
    attempts        smallint NOT NULL DEFAULT 0,  -- sends whose outcome was seen
    next_attempt_at timestamptz NOT NULL,         -- of a claimed message: when its lease ends and it is free again
    claim           text,                         -- the worker that claimed it
    reason          text,                         -- why the last attempt, or the message, failed; no personal data
    finished_at     timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'Pending') = (finished_at IS NULL)),
    UNIQUE (mailing_id, client_id)
);
CREATE INDEX message_due ON mailings.message (mailing_id, next_attempt_at) WHERE status = 'Pending';
CREATE INDEX message_created_at ON mailings.message USING brin (created_at);

-- Changes of the number of messages by mailing and status, to be summed: writers never wait for each other, and statistics
-- read few rows. Replaced by their sums by the planner.
CREATE TABLE mailings.message_count (
    mailing_id bigint NOT NULL,
    status     text NOT NULL,
    change     bigint NOT NULL
);
CREATE INDEX message_count_mailing ON mailings.message_count (mailing_id, status);

-- Triggers, so that no statement can forget to count.
CREATE FUNCTION mailings.count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO mailings.message_count
        SELECT mailing_id, status, count(*) FROM new_rows GROUP BY mailing_id, status;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO mailings.message_count
        SELECT mailing_id, status, -count(*) FROM old_rows GROUP BY mailing_id, status;
    ELSE
        INSERT INTO mailings.message_count
        SELECT mailing_id, status, sum(change) FROM (
            SELECT mailing_id, status, 1 AS change FROM new_rows
            UNION ALL
            SELECT mailing_id, status, -1 FROM old_rows) AS changes
        GROUP BY mailing_id, status HAVING sum(change) <> 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER message_inserted AFTER INSERT ON mailings.message
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION mailings.count_messages();
CREATE TRIGGER message_updated AFTER UPDATE ON mailings.message
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT
    EXECUTE FUNCTION mailings.count_messages();
CREATE TRIGGER message_deleted AFTER DELETE ON mailings.message
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION mailings.count_messages();

-- The time before which no worker may begin a further send. One row, changed many times a second and worthless after a
-- crash: unlogged, so that reserving a send costs no disk sync.
CREATE UNLOGGED TABLE mailings.send_rate (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    next_at timestamptz NOT NULL
) WITH (fillfactor = 50);
