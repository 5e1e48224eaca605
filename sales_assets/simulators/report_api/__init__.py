"""Simulator of the report API: the real API's wire format over a folder of files, given or generated."""
