-- The mart belongs to its readers: removing the platform never drops it.
DROP FUNCTION ops.take_down_views;
