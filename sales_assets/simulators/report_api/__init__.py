"""Simulator of the report API: the real service's wire format over a folder of files.

Belongs here: everything that the platform sees of the real service over HTTP, and the files behind it (``generate``
makes them). Does not belong here: anything that reads the responses.
"""
