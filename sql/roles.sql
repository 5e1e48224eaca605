-- Roles for a shared PostgreSQL server. Run this as owner of the schema after every `sales-assets migrate`; it is
-- idempotent:   psql "$(sales-assets warehouse url)" -f sql/roles.sql
-- All are groups without login. Create a login, and set WAREHOUSE_URL to it:
--   CREATE ROLE loader LOGIN PASSWORD '...' IN ROLE sales_loader;
--   CREATE ROLE analyst LOGIN PASSWORD '...' IN ROLE sales_reader;
--   CREATE ROLE mailer LOGIN PASSWORD '...' IN ROLE sales_mailings;   -- workers and beat of the mailings, if not loader
-- Dagster's storage is a separate database (DAGSTER_STORAGE_URL); the role that owns it needs no privileges here.
DO $roles$
BEGIN
    IF to_regrole('sales_loader') IS NULL THEN
        CREATE ROLE sales_loader NOLOGIN;
    END IF;
    IF to_regrole('sales_reader') IS NULL THEN
        CREATE ROLE sales_reader NOLOGIN;
    END IF;
    IF to_regrole('sales_mailings') IS NULL THEN
        CREATE ROLE sales_mailings NOLOGIN;
    END IF;
END
$roles$;

-- The loader writes to tables, and can't create, alter or drop anything. In raw, and to the audit trail, it can only add
-- rows.
GRANT USAGE ON SCHEMA ops, raw, staging, mart, orders, mailings, lake TO sales_loader;
GRANT SELECT ON ops.schema_version TO sales_loader;
GRANT SELECT, INSERT ON ops.admin_login, ops.admin_change TO sales_loader;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA raw TO sales_loader;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA staging, orders, mailings, lake TO sales_loader;
REVOKE UPDATE, DELETE ON staging.resolution FROM sales_loader;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA mart TO sales_loader;
GRANT DELETE ON mart.f_sales, mart.f_activity, mart.f_research, mart.f_customer_retention, mart.f_mailing_deliveries,
    mart.f_mailing_statistics TO sales_loader;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA raw, staging, mart, orders, mailings TO sales_loader;
GRANT EXECUTE ON FUNCTION staging.reserve_sale_ids(bigint), staging.event_time(text),
    staging.name_at(text, integer, text) TO sales_loader;

-- Processes of the mailings can read clients, mailings and messages, but no sales.
GRANT USAGE ON SCHEMA ops, mailings TO sales_mailings;
GRANT SELECT ON ops.schema_version TO sales_mailings;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mailings TO sales_mailings;

-- The reader can read only the mart and the lake's catalog: no raw names, no quarantine, no phones of partner orders or
-- mailings.
GRANT USAGE ON SCHEMA mart, lake TO sales_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA mart, lake TO sales_reader;
