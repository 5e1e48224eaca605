"""Clients of external systems, one class each: report API, raw files. They tell permanent from transient failures."""
