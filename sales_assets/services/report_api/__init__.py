"""A stand-in for the report service: its wire format over a folder of files, for tests, demos and benchmarks.

What belongs here: everything the platform sees of the real service over HTTP, and the files behind it
(``generate`` makes them). What does not: anything that reads those answers. The platform meets this package
over HTTP only, as it meets the real one.
"""
