-- The states are those of sales_assets/services/partner_orders/domain/states.py, which also says which follows which.
ALTER TABLE orders.partner_order
    DROP CONSTRAINT partner_order_state_check,
    DROP CONSTRAINT partner_order_check,
    ADD COLUMN check_until timestamptz,           -- end of the watch period of the state
    ADD COLUMN cancel_answer jsonb;               -- what the last cancel was answered; NULL while it is under way

UPDATE orders.partner_order
SET state = CASE
        WHEN state = 'creating' AND uncertain THEN 'unknown'
        WHEN state <> 'accepted' THEN state
        WHEN cancelled_at IS NOT NULL THEN 'cancelled'
        WHEN cancel_asked_at IS NOT NULL THEN 'cancel_unknown'
        WHEN status_id = 2 THEN 'done'
        ELSE 'accepted'
    END;
-- Open orders of the last two weeks are polled from now on.
UPDATE orders.partner_order
SET next_check_at = CASE
        WHEN state IN ('creating', 'unknown', 'cancel_unknown') THEN coalesce(next_check_at, now())
        WHEN state = 'accepted' AND created_at > now() - interval '14 days' THEN now()
    END,
    check_until = CASE
        WHEN state IN ('creating', 'unknown', 'cancel_unknown') THEN now() + interval '24 hours'
        WHEN state = 'accepted' THEN created_at + interval '14 days'
    END,
    checks = 0;

ALTER TABLE orders.partner_order
    DROP COLUMN uncertain,
    DROP COLUMN cancel_asked_at,
    ADD CONSTRAINT partner_order_state_check CHECK (state IN
        ('creating', 'unknown', 'failed', 'rejected', 'accepted', 'cancelling', 'cancel_unknown', 'done', 'cancelled')),
    ADD CONSTRAINT partner_order_known_at_partner CHECK (
        (state IN ('accepted', 'cancelling', 'cancel_unknown', 'done', 'cancelled')) = (their_order_id IS NOT NULL)),
    ADD CONSTRAINT partner_order_cancelled_at CHECK ((state = 'cancelled') = (cancelled_at IS NOT NULL));

DROP INDEX orders.partner_order_to_check;
CREATE INDEX partner_order_to_check ON orders.partner_order (state, next_check_at) WHERE next_check_at IS NOT NULL;
