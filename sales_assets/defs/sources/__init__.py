"""Where data starts: external assets, which others write and Dagster only shows. Nothing here is materialized.

``sources/report_api`` is a service of others; ``sources/<schema>/<table>`` are tables that our services write.
"""
