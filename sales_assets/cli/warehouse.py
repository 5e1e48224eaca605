"""`sales-assets warehouse`: the warehouse's address, and the embedded server's life."""

import typer

from sales_assets.cli.console import out

app = typer.Typer(help="The warehouse's address, and the embedded server's life.", no_args_is_help=True)


@app.command("url")
def warehouse_url_command() -> None:
    """Print a libpq URL of the database that holds mart, for `psql "$(sales-assets warehouse url)"`.

    Starts the embedded server where none runs; it lives on until `sales-assets warehouse stop`.
    """
    from sales_assets.postgres.database import warehouse_url

    print(warehouse_url())  # noqa: T201  rich would wrap it


@app.command("stop")
def warehouse_stop() -> None:
    """Stop the embedded server. A server of WAREHOUSE_URL is left alone."""
    from sales_assets.postgres.database import embedded

    server = embedded()
    if not server.is_running():
        out.print("no embedded server is running")
        return
    server.stop()
    out.print("the embedded server is stopped")
