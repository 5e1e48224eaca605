DROP INDEX orders.partner_order_to_check;

ALTER TABLE orders.partner_order
    DROP CONSTRAINT partner_order_state_check,
    DROP CONSTRAINT partner_order_known_at_partner,
    DROP CONSTRAINT partner_order_cancelled_at,
    ADD COLUMN uncertain boolean NOT NULL DEFAULT false,
    ADD COLUMN cancel_asked_at timestamptz;

UPDATE orders.partner_order
SET state = CASE WHEN state IN ('cancelling', 'cancel_unknown', 'done', 'cancelled') THEN 'accepted' ELSE state END,
    uncertain = state = 'unknown',
    cancel_asked_at = CASE WHEN state IN ('cancelling', 'cancel_unknown') THEN updated_at END,
    status_id = CASE state WHEN 'done' THEN 2 WHEN 'cancelled' THEN 3 ELSE status_id END,
    next_check_at = CASE WHEN state IN ('creating', 'unknown', 'cancelling', 'cancel_unknown')
                         THEN coalesce(next_check_at, now()) END,
    checks = 0;

ALTER TABLE orders.partner_order
    DROP COLUMN check_until,
    DROP COLUMN cancel_answer,
    ADD CONSTRAINT partner_order_state_check
        CHECK (state IN ('creating', 'accepted', 'rejected', 'failed', 'unknown')),
    ADD CONSTRAINT partner_order_check CHECK ((state = 'accepted') <= (their_order_id IS NOT NULL));

CREATE INDEX partner_order_to_check ON orders.partner_order (next_check_at) WHERE next_check_at IS NOT NULL;
