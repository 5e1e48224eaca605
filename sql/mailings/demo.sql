-- name: weeks
-- Sums over items: only new customers and amounts may be added up.
SELECT period_id, sum(new_customers_count) AS new_customers, sum(new_customers_revenue) AS new_customers_revenue,
       sum(returning_customers_revenue) AS returning_customers_revenue, sum(refunded_amount) AS refunded_amount
FROM mart.f_customer_retention
GROUP BY period_id
ORDER BY period_id DESC
LIMIT %(limit)s

-- name: followed
-- Trace the refunds of some orders to the messages of a mailing.
SELECT p.order_id, f.date_id, f.amount, f.customer_id, l.client_id, t.tag, d.message_id, d.status, d.seconds_to_deliver
FROM staging.partner_order_line AS p
JOIN mart.f_sales AS f ON f.id = p.sale_id AND f.status = 'refunded'
LEFT JOIN mailings.client_customer AS l ON l.customer_id = f.customer_id
LEFT JOIN mailings.client_tag AS t ON t.client_id = l.client_id AND t.tag = 'refunded'
LEFT JOIN mart.f_mailing_deliveries AS d ON d.client_id = l.client_id AND d.mailing_id = %(mailing_id)s
WHERE p.order_id = ANY (%(order_ids)s)
ORDER BY p.order_id, p.line_no
