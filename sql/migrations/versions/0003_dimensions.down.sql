-- Dimension rows are never deleted, not even here; what goes is the bookkeeping of their names.
ALTER TABLE mart.d_city     DROP COLUMN name_as_of;
ALTER TABLE mart.d_customer DROP COLUMN name_as_of;
ALTER TABLE mart.d_item     DROP COLUMN name_as_of;
