CREATE TABLE mailings.ended_admin_session (
    session_id text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE mailings.ended_admin_session IS
    'Sessions of the admin page that were ended by a logout before their cookie expires.';
