DROP TABLE ops.admin_change;
-- The row of such an entry is open and is parsed again, unchanged.
UPDATE staging.resolution SET action = 'parse again' WHERE action = 'reopen';
ALTER TABLE staging.resolution
    DROP CONSTRAINT resolution_action_check,
    ADD CONSTRAINT resolution_action_check CHECK (action IN ('correct', 'discard', 'parse again'));
