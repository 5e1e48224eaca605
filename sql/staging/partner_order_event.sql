-- name: stage
-- Idempotent: a message that was staged before changes nothing. An erased phone is replaced by its pseudonym: the message may
-- have waited in the queue while its person was erased.
INSERT INTO staging.partner_order_event (message_id, kind, project_id, kodpost, order_id, their_order_id,
                                         their_pharmacy_id, phone, dated_at, lines)
SELECT message_id, kind, project_id, kodpost, order_id, their_order_id, their_pharmacy_id,
       CASE WHEN mailings.is_erased(pseudonym, %(key_id)s) THEN pseudonym ELSE phone END, dated_at, lines
FROM jsonb_to_recordset(%(events)s) AS e (message_id text, kind text, project_id integer, kodpost integer, order_id bigint,
     their_order_id text, their_pharmacy_id text, phone text, pseudonym text, dated_at timestamptz, lines jsonb)
ON CONFLICT (message_id) DO NOTHING
RETURNING message_id

-- name: new_days
-- Find the days of new events, and all other days of their orders: a cancel that was staged before its sale gives a
-- refund only once the sale is staged.
SELECT to_char(e.dated_at AT TIME ZONE %(timezone)s, 'YYYY-MM-DD') AS day,
       md5(string_agg(e.message_id, ',' ORDER BY e.message_id)) AS digest
FROM (SELECT DISTINCT project_id, order_id FROM staging.partner_order_event WHERE loaded_at IS NULL) AS changed
JOIN staging.partner_order_event AS e USING (project_id, order_id)
GROUP BY day
ORDER BY day

-- name: mark_loaded
UPDATE staging.partner_order_event SET loaded_at = now()
WHERE loaded_at IS NULL AND message_id IN (SELECT message_id FROM partner_event)

-- name: mark_waiting_as_new
-- After a mapping was added: mark the events of waiting lines as new, so that their days are loaded again.
UPDATE staging.partner_order_event SET loaded_at = NULL
WHERE message_id IN (SELECT message_id FROM staging.partner_order_quarantine)
