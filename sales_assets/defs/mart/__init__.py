"""Mart assets for analysts: dimensions, sales, and tables derived from sales or messages. A module per table.

Holds keys, specs and checks of ``mart.*``, and the ops that fill only the mart. Ops that fill several schemas are in
`defs.load_daily_sales` and `defs.load_partner_orders`; statements are in ``sql/mart``.
"""
