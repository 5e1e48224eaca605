DROP FUNCTION staging.reserve_sale_ids(bigint);
