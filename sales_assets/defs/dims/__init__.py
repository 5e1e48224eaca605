"""Calendar, cities, customers, items: rows are made by the load that needs them, and never deleted."""
