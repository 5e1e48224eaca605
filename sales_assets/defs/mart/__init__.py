"""What analysts read: dimensions, sales, and tables made of sales or messages. A module per table.

Belongs here: keys, specs and checks of ``mart.*``, and the ops that fill nothing else. Does not belong here: ops that
take days through several schemas (`defs.load_daily_sales`, `defs.load_partner_orders`), or statements (``sql/mart``).
"""
