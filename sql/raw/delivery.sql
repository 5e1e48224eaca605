-- name: record
INSERT INTO raw.delivery (kind, first_day, last_day, outcome, reason, report_id, increment_id, run_id)
VALUES (%(kind)s, %(first_day)s, %(last_day)s, %(outcome)s, %(reason)s, %(report_id)s, %(increment_id)s, %(run_id)s)
RETURNING delivery_id

-- name: latest_report
-- The report whose id increments are asked with.
SELECT report_id, first_day, last_day
FROM raw.delivery
WHERE kind = 'report' AND outcome = 'delivered'
ORDER BY delivery_id DESC
LIMIT 1
