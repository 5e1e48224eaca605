"""The sales overview: figures of the mart over a period, as charts and as one HTML file.

`figures` reads the figures, `charts` draws them, `page` writes the file. The extra `[reports]` is needed, and imported,
only when they run.
"""
