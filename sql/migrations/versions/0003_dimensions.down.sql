-- Dimension rows are never deleted, not even here; only the columns about their names are dropped.
ALTER TABLE mart.d_city     DROP COLUMN name_as_of;
ALTER TABLE mart.d_customer DROP COLUMN name_as_of;
ALTER TABLE mart.d_item     DROP COLUMN name_as_of;
