-- name: record
INSERT INTO ops.admin_login (user_name, event) VALUES (%(user_name)s, %(event)s)

-- name: refusals
-- Wrong passwords of a user in the last 15 minutes, since the last correct one.
SELECT count(*) AS refusals
FROM ops.admin_login
WHERE user_name = %(user_name)s AND event = 'refused' AND at > now() - interval '15 minutes'
  AND login_id > coalesce((SELECT max(login_id) FROM ops.admin_login
                           WHERE user_name = %(user_name)s AND event = 'login'), 0)
