-- name: all
SELECT customer_id FROM staging.erased_customer ORDER BY customer_id

-- name: add
INSERT INTO staging.erased_customer (customer_id) SELECT unnest(%(customer_ids)s::integer[])
ON CONFLICT (customer_id) DO NOTHING
