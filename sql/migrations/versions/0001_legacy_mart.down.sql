-- The mart belongs to its readers: taking the platform away never drops it.
DROP FUNCTION ops.take_down_views;
