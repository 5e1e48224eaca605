-- name: record
INSERT INTO ops.admin_change (user_name, action, object, object_id, detail)
VALUES (%(user_name)s, %(action)s, %(object)s, %(object_id)s, %(detail)s)
