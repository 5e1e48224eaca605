CREATE OR REPLACE VIEW mart.f_sales_lines AS
SELECT f.id, f.date_id, f.status, f.source, s.uniq_id, s.fetch_id, r.kind AS fetch_kind, r.path AS file, s.line_no
FROM mart.f_sales AS f
LEFT JOIN staging.user_orders_log AS s
       ON s.sale_id = f.id AND s.date_id = f.date_id AND f.source = 'report_api'
LEFT JOIN raw.fetch AS r ON r.fetch_id = s.fetch_id;

-- Rows of the mart are kept; the events and lines they were made from are dropped.
DROP TABLE staging.partner_order_quarantine, staging.partner_order_line, staging.partner_order_event,
           staging.partner_customer, staging.partner_pharmacy, staging.partner_item;
DROP TABLE orders.outbox, orders.partner_order;
-- A shop's database may have had a schema of this name, with tables in it.
DO $schema$
BEGIN
    DROP SCHEMA orders;
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END
$schema$;
