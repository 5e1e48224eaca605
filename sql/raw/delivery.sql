-- name: record
-- Numbers are drawn and returned in the order of the list.
INSERT INTO raw.delivery (kind, first_day, last_day, outcome, reason, report_id, increment_id, run_id)
SELECT d.kind, d.first_day, d.last_day, d.outcome, d.reason, d.report_id, d.increment_id, d.run_id
FROM ROWS FROM (jsonb_to_recordset(%(deliveries)s) AS (kind text, first_day date, last_day date, outcome text,
                                                       reason text, report_id text, increment_id text, run_id text))
     WITH ORDINALITY AS d (kind, first_day, last_day, outcome, reason, report_id, increment_id, run_id, place)
ORDER BY d.place
RETURNING delivery_id

-- name: latest_report
-- The report by whose id increments are requested.
SELECT report_id, first_day, last_day
FROM raw.delivery
WHERE kind = 'report' AND outcome = 'delivered'
ORDER BY delivery_id DESC
LIMIT 1
