"""Automation of the assets: jobs, schedules, and a module per sensor."""
