"""``python -m sales_assets.cli``: the command `sales-assets`."""

from sales_assets.cli import main

if __name__ == "__main__":
    main()
