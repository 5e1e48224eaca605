"""The sales overview: figures of the mart over a period, as charts and as one HTML file.

`figures` reads, `charts` draws, `page` writes. Needs the extra `[reports]`, imported only for
drawing.
"""
