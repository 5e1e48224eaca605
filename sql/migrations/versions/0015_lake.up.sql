CREATE SCHEMA IF NOT EXISTS lake;

-- The two tables of Iceberg's SQL catalog, as PyIceberg and the JDBC catalog of Java (schema version V1) create them.
CREATE TABLE lake.iceberg_tables (
    catalog_name               varchar(255) NOT NULL,
    table_namespace            varchar(255) NOT NULL,
    table_name                 varchar(255) NOT NULL,
    metadata_location          varchar(1000),     -- the table's current state, replaced by each commit
    previous_metadata_location varchar(1000),
    iceberg_type               varchar(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name)
);
COMMENT ON TABLE lake.iceberg_tables IS
    'Iceberg catalog: the location of the metadata of each table of the lake.';

CREATE TABLE lake.iceberg_namespace_properties (
    catalog_name   varchar(255) NOT NULL,
    namespace      varchar(255) NOT NULL,
    property_key   varchar(255) NOT NULL,
    property_value varchar(1000) NOT NULL,
    PRIMARY KEY (catalog_name, namespace, property_key)
);
INSERT INTO lake.iceberg_namespace_properties VALUES ('sales_assets', 'lake', 'exists', 'true');
