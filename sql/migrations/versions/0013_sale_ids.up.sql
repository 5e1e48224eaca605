-- Reserves consecutive ids and returns the first; NULL if they have to be drawn one by one, because the sequence has
-- another step or owner, or because this would have to wait for an open transaction that drew from it. Commit at once:
-- until then, writers that draw an id wait.
CREATE FUNCTION staging.reserve_sale_ids(count bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    sequence constant regclass := pg_get_serial_sequence('mart.f_sales', 'id');
    first_id bigint;
BEGIN
    IF (count > 0) IS NOT TRUE THEN
        RAISE EXCEPTION 'the number of ids must be positive, not %', count;
    END IF;
    IF (SELECT seqincrement FROM pg_sequence WHERE seqrelid = sequence) <> 1 THEN
        RETURN NULL;
    END IF;
    -- nextval() takes no lock that SELECT or setval() would wait for; changing the sequence excludes it.
    EXECUTE format('ALTER SEQUENCE %s INCREMENT BY 1', sequence);
    EXECUTE format('SELECT last_value + is_called::integer FROM %s', sequence) INTO first_id;
    PERFORM setval(sequence, first_id + count - 1);
    RETURN first_id;
EXCEPTION
    WHEN lock_not_available OR insufficient_privilege THEN
        RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION staging.reserve_sale_ids(bigint) FROM PUBLIC;
