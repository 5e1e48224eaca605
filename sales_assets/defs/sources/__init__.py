"""External assets: the origins of all data, shown for lineage and never materialized.

``sources/report_api`` is an external service; ``sources/<schema>/<table>`` are tables that our services write.
"""
