-- name: end
-- Expired cookies are rejected anyway, so their sessions are deleted.
WITH expired AS (
    DELETE FROM mailings.ended_admin_session WHERE expires_at < now()
)
INSERT INTO mailings.ended_admin_session (session_id, expires_at) VALUES (%(session_id)s, %(until)s)
ON CONFLICT (session_id) DO NOTHING

-- name: is_ended
SELECT EXISTS (SELECT 1 FROM mailings.ended_admin_session WHERE session_id = %(session_id)s) AS ended
