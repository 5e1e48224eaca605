"""Clients of external systems, one class each: report API, raw files, receivers of alerts.

They distinguish permanent from transient failures.
"""
