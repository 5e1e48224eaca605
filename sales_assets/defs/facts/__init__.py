"""``mart.f_sales``: a row per sold or refunded line, whole days at a time."""
