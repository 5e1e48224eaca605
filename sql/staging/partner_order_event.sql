-- name: stage
-- A message that was staged before, however often it comes, changes nothing.
INSERT INTO staging.partner_order_event (message_id, kind, project_id, kodpost, order_id, their_order_id,
                                         their_pharmacy_id, phone, dated_at, lines)
SELECT message_id, kind, project_id, kodpost, order_id, their_order_id, their_pharmacy_id, phone, dated_at, lines
FROM jsonb_to_recordset(%(events)s) AS e (message_id text, kind text, project_id integer, kodpost integer, order_id bigint,
     their_order_id text, their_pharmacy_id text, phone text, dated_at timestamptz, lines jsonb)
ON CONFLICT (message_id) DO NOTHING
RETURNING message_id

-- name: new_days
-- Days that new events are about. All days of an order with news are among them: a cancel that was staged before its
-- sale makes its refund only once the sale is there.
SELECT to_char(e.dated_at AT TIME ZONE %(timezone)s, 'YYYY-MM-DD') AS day,
       md5(string_agg(e.message_id, ',' ORDER BY e.message_id)) AS digest
FROM (SELECT DISTINCT project_id, order_id FROM staging.partner_order_event WHERE loaded_at IS NULL) AS news
JOIN staging.partner_order_event AS e USING (project_id, order_id)
GROUP BY day
ORDER BY day

-- name: mark_loaded
UPDATE staging.partner_order_event SET loaded_at = now()
WHERE loaded_at IS NULL AND message_id IN (SELECT message_id FROM partner_event)

-- name: ask_again
-- A mapping was added: the days whose lines waited for it are made anew.
UPDATE staging.partner_order_event SET loaded_at = NULL
WHERE message_id IN (SELECT message_id FROM staging.partner_order_quarantine)
