-- name: create
INSERT INTO mailings.mailing (start_time, text, operator_code_filter, tag_filter, end_time, send_from, send_until)
VALUES (%(start_time)s, %(text)s, %(client_operator_code_filter)s, %(client_tag_filter)s, %(end_time)s, %(send_from)s,
        %(send_until)s)
RETURNING mailing_id AS id, start_time, text, operator_code_filter AS client_operator_code_filter,
          tag_filter AS client_tag_filter, end_time, send_from, send_until

-- name: lock
-- Lock the row, so that the planner that starts the mailing and a change of it are serialized. clock_timestamp() is the
-- time after the lock was acquired; now() would be from before the wait.
SELECT mailing_id AS id, start_time, text, operator_code_filter AS client_operator_code_filter,
       tag_filter AS client_tag_filter, end_time, send_from, send_until, state
FROM mailings.mailing
WHERE mailing_id = %(mailing_id)s AND deleted_at IS NULL
FOR UPDATE

-- name: clock
SELECT clock_timestamp() AS now

-- name: update
UPDATE mailings.mailing
SET start_time = %(start_time)s, text = %(text)s, operator_code_filter = %(client_operator_code_filter)s,
    tag_filter = %(client_tag_filter)s, end_time = %(end_time)s, send_from = %(send_from)s, send_until = %(send_until)s,
    updated_at = now()
WHERE mailing_id = %(mailing_id)s AND state = 'scheduled' AND deleted_at IS NULL
RETURNING mailing_id AS id, start_time, text, operator_code_filter AS client_operator_code_filter,
          tag_filter AS client_tag_filter, end_time, send_from, send_until

-- name: delete
-- The planner ends the waiting messages later: they may be too many for a request.
UPDATE mailings.mailing SET deleted_at = now(), updated_at = now()
WHERE mailing_id = %(mailing_id)s AND deleted_at IS NULL
RETURNING mailing_id AS id

-- name: pause
-- A finished mailing can't be paused.
UPDATE mailings.mailing SET paused_at = coalesce(paused_at, now()), updated_at = now()
WHERE mailing_id = %(mailing_id)s AND deleted_at IS NULL AND state <> 'finished' AND paused_at IS NULL
RETURNING mailing_id AS id

-- name: resume
UPDATE mailings.mailing SET paused_at = NULL, updated_at = now()
WHERE mailing_id = %(mailing_id)s AND deleted_at IS NULL AND paused_at IS NOT NULL
RETURNING mailing_id AS id

-- name: exists
SELECT state FROM mailings.mailing WHERE mailing_id = %(mailing_id)s AND deleted_at IS NULL

-- name: detail
SELECT mailing_id AS id, start_time, text, operator_code_filter AS client_operator_code_filter,
       tag_filter AS client_tag_filter, end_time, send_from, send_until, state, paused_at IS NOT NULL AS paused,
       paused_at, started_at, finished_at, created_at, updated_at
FROM mailings.mailing
WHERE mailing_id = %(mailing_id)s AND deleted_at IS NULL

-- name: page
-- Keyset pagination by id.
SELECT mailing_id AS id, start_time, text, operator_code_filter AS client_operator_code_filter,
       tag_filter AS client_tag_filter, end_time, send_from, send_until, state, paused_at IS NOT NULL AS paused
FROM mailings.mailing
WHERE mailing_id > %(after)s AND deleted_at IS NULL AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY mailing_id
LIMIT %(limit)s

-- name: search
-- For the admin page: a page, latest first; searches the text and the filters.
SELECT mailing_id AS id, start_time, text, operator_code_filter AS client_operator_code_filter,
       tag_filter AS client_tag_filter, end_time, send_from, send_until, state, paused_at IS NOT NULL AS paused,
       started_at, finished_at
FROM mailings.mailing
WHERE deleted_at IS NULL
  AND (%(words)s::text IS NULL OR text ILIKE %(words)s OR operator_code_filter ILIKE %(words)s
       OR tag_filter ILIKE %(words)s)
  AND (%(ids)s::bigint[] IS NULL OR mailing_id = ANY (%(ids)s))
ORDER BY mailing_id DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: count_found
SELECT count(*) AS count FROM mailings.mailing
WHERE deleted_at IS NULL
  AND (%(words)s::text IS NULL OR text ILIKE %(words)s OR operator_code_filter ILIKE %(words)s
       OR tag_filter ILIKE %(words)s)

-- name: preview
-- Count the clients that would receive a mailing with these filters if it started now.
SELECT count(*) AS count FROM mailings.recipients(%(client_operator_code_filter)s, %(client_tag_filter)s)

-- name: preview_page
SELECT client_id
FROM mailings.recipients(%(client_operator_code_filter)s, %(client_tag_filter)s)
WHERE client_id > %(after)s
ORDER BY client_id
LIMIT %(limit)s

-- name: messages
-- A page of a mailing's messages, by client id as in the unique index.
SELECT message_id AS id, client_id, status, attempts, reason, created_at, finished_at,
       CASE WHEN status = 'Pending' THEN next_attempt_at END AS next_attempt_at
FROM mailings.message
WHERE mailing_id = %(mailing_id)s AND client_id > %(after)s AND (%(status)s::text IS NULL OR status = %(status)s)
ORDER BY client_id
LIMIT %(limit)s

-- name: latest_messages
-- For the admin page: a page, latest first.
SELECT message_id AS id, mailing_id, client_id, status, attempts, reason, created_at, finished_at
FROM mailings.message
ORDER BY message_id DESC
LIMIT %(limit)s OFFSET %(offset)s

-- name: messages_of
-- For the admin page: a page of a mailing's messages, by client id.
SELECT message_id AS id, mailing_id, client_id, status, attempts, reason, created_at, finished_at
FROM mailings.message
WHERE mailing_id = %(mailing_id)s
ORDER BY client_id
LIMIT %(limit)s OFFSET %(offset)s

-- name: message
SELECT message_id AS id, mailing_id, client_id, status, attempts, reason, created_at, finished_at
FROM mailings.message
WHERE message_id = %(message_id)s

-- name: count_messages
SELECT coalesce(sum(change), 0)::bigint AS count FROM mailings.message_count
WHERE %(mailing_id)s::bigint IS NULL OR mailing_id = %(mailing_id)s
