"""How the stand-in listens: as every service does. Kept as a name that callers of the stand-in know."""

from sales_assets.services.server import running, serve

__all__ = ["running", "serve"]
