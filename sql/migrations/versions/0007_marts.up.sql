-- The ISO week of a day, as ISO year * 100 + ISO week; NULL for a number that is not a date, since an old mart may hold
-- 20240231.
CREATE FUNCTION mart.iso_week(date_id integer) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN extract(year FROM day) * 10000 + extract(month FROM day) * 100 + extract(day FROM day) = date_id
                THEN (extract(isoyear FROM day) * 100 + extract(week FROM day))::integer END
    FROM (SELECT CASE WHEN date_id BETWEEN 10101 AND 99991231
                      THEN make_date(date_id / 10000, 1, 1) + make_interval(months => date_id / 100 % 100 - 1,
                                                                            days => date_id % 100 - 1)
                 END AS day) AS named
$$;

CREATE TABLE mart.f_customer_retention (
    period_name                 text NOT NULL DEFAULT 'weekly' CHECK (period_name = 'weekly'),
    period_id                   integer NOT NULL,           -- ISO year * 100 + ISO week
    item_id                     integer NOT NULL,
    new_customers_count         bigint NOT NULL,
    returning_customers_count   bigint NOT NULL,
    refunded_customer_count     bigint NOT NULL,
    new_customers_revenue       numeric(20, 2) NOT NULL,
    returning_customers_revenue numeric(20, 2) NOT NULL,
    customers_refunded          bigint NOT NULL,
    refunded_amount             numeric(20, 2) NOT NULL,
    PRIMARY KEY (period_name, period_id, item_id)
);
COMMENT ON TABLE mart.f_customer_retention IS
    'New, returning and refunded customers and their revenue, a row per ISO week and item.';
COMMENT ON COLUMN mart.f_customer_retention.period_id IS
    'ISO year * 100 + ISO week, by the ISO year: 2024-12-30 is in 202501, 2021-01-03 in 202053.';
COMMENT ON COLUMN mart.f_customer_retention.new_customers_count IS
    'Customers of the item whose only shipped line of the week, of any item, it is.';
COMMENT ON COLUMN mart.f_customer_retention.returning_customers_count IS
    'Customers of the item with more than one shipped line in the week, of any items.';
COMMENT ON COLUMN mart.f_customer_retention.refunded_customer_count IS
    'Customers with a refunded line of the item in the week.';
COMMENT ON COLUMN mart.f_customer_retention.new_customers_revenue IS
    'Gross: shipped lines of the new customers. With the returning customers'' it is all that was shipped.';
COMMENT ON COLUMN mart.f_customer_retention.customers_refunded IS 'Refunded lines of the item in the week.';
COMMENT ON COLUMN mart.f_customer_retention.refunded_amount IS
    'Total of the refunded lines, negative: with both revenues it is the net of the week.';

-- The outcome of each message, without phone and text.
CREATE TABLE mart.f_mailing_deliveries (
    message_id           bigint PRIMARY KEY,
    date_id              integer NOT NULL,                  -- day on which the list of recipients was made
    mailing_id           bigint NOT NULL,
    client_id            bigint NOT NULL,
    customer_id          integer,                           -- NULL: the client is not linked to a customer
    tag_filter           text,                              -- the mailing's, NULL: it went to every tag
    operator_code_filter text,
    status               text NOT NULL CHECK (status IN ('Pending', 'SENT', 'FAILED', 'TIMEOUT')),
    attempts             smallint NOT NULL,
    reason               text,
    created_at           timestamptz NOT NULL,
    finished_at          timestamptz,
    seconds_to_deliver   numeric(12, 3)
);
CREATE INDEX f_mailing_deliveries_date_id ON mart.f_mailing_deliveries (date_id);
CREATE INDEX f_mailing_deliveries_pending ON mart.f_mailing_deliveries (date_id) WHERE status = 'Pending';
COMMENT ON TABLE mart.f_mailing_deliveries IS 'A row per message of a mailing, by the day its recipients were fixed.';
COMMENT ON COLUMN mart.f_mailing_deliveries.customer_id IS
    'Customer (mart.d_customer) that the client was linked to when the day was last made; NULL: none.';
COMMENT ON COLUMN mart.f_mailing_deliveries.attempts IS 'Sends that were begun.';
COMMENT ON COLUMN mart.f_mailing_deliveries.seconds_to_deliver IS
    'From when the recipients were fixed to when the sender took the message; of SENT messages only.';

CREATE TABLE mart.f_mailing_statistics (
    date_id          integer NOT NULL,
    mailing_id       bigint NOT NULL,
    messages         bigint NOT NULL,
    pending          bigint NOT NULL,
    sent             bigint NOT NULL,
    failed           bigint NOT NULL,
    timed_out        bigint NOT NULL,
    attempts         bigint NOT NULL,
    linked_customers bigint NOT NULL,
    median_seconds   numeric(12, 3),
    slowest_seconds  numeric(12, 3),
    last_finished_at timestamptz,
    PRIMARY KEY (date_id, mailing_id),
    CHECK (messages = pending + sent + failed + timed_out)
);
COMMENT ON TABLE mart.f_mailing_statistics IS 'What became of a day''s messages, a row per mailing.';
COMMENT ON COLUMN mart.f_mailing_statistics.median_seconds IS 'Median of the seconds to deliver, of SENT messages.';

-- Normalize a Russian phone to 7 and ten digits, as the clients have it; NULL for any other. 8 is the trunk prefix of
-- domestic calls; after a + it begins another country's code.
CREATE FUNCTION mailings.phone_of(written text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT '7' || substring(regexp_replace(written, '[^0-9]', '', 'g') FROM
                            CASE WHEN written ~ '^\s*\+' THEN '^7([0-9]{10})$' ELSE '^[78]?([0-9]{10})$' END)
$$;

-- Computed once, when a phone is mapped: a sensor compares all phones every minute.
ALTER TABLE staging.partner_customer
    ADD COLUMN client_phone text GENERATED ALWAYS AS (mailings.phone_of(phone)) STORED;

-- Links by the phones of partner orders. A phone that is mapped to two customers, in different spellings, gives none, and
-- clients linked by hand get none. Uses joins that the planner can estimate: with HAVING it assumes that nearly all phones
-- are ambiguous, and looks up one client after the other.
CREATE VIEW mailings.phone_link AS
SELECT c.client_id, told.customer_id
FROM (SELECT DISTINCT client_phone, customer_id FROM staging.partner_customer WHERE client_phone IS NOT NULL) AS told
JOIN mailings.client AS c ON c.phone = told.client_phone
WHERE NOT EXISTS (SELECT FROM staging.partner_customer AS other
                  WHERE other.client_phone = told.client_phone AND other.customer_id <> told.customer_id)
  AND NOT EXISTS (SELECT FROM mailings.client_customer AS l WHERE l.client_id = c.client_id AND l.linked_by = 'api');
