ALTER TABLE staging.resolution
    DROP CONSTRAINT resolution_action_check,
    ADD CONSTRAINT resolution_action_check CHECK (action IN ('correct', 'discard', 'parse again', 'reopen'));

-- Changes that users made on the admin pages of the mailings, in the transaction of the change. Never edited.
CREATE TABLE ops.admin_change (
    change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_name text NOT NULL,
    action    text NOT NULL CHECK (action IN ('create', 'edit', 'delete', 'pause', 'resume')),
    object    text NOT NULL CHECK (object IN ('client', 'mailing', 'suppressed phone')),
    object_id bigint NOT NULL,
    detail    jsonb,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.admin_change IS
    'Changes that users made on the admin pages of the mailings: who, when, what. Never edited.';
COMMENT ON COLUMN ops.admin_change.change_id IS 'Number of the entry';
COMMENT ON COLUMN ops.admin_change.user_name IS 'Name of the user';
COMMENT ON COLUMN ops.admin_change.action IS 'create, edit, delete, pause or resume';
COMMENT ON COLUMN ops.admin_change.object IS 'client, mailing or suppressed phone';
COMMENT ON COLUMN ops.admin_change.object_id IS 'Its id';
-- A phone that is erased must not be left here.
COMMENT ON COLUMN ops.admin_change.detail IS
    'Of a mailing, the values of its fields, of an edit before and after; of a client only the names of changed fields';
COMMENT ON COLUMN ops.admin_change.at IS 'When it happened';
