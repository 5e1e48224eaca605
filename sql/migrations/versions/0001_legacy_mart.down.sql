-- The mart belongs to its readers: taking the platform away never drops it.
SELECT 1;
