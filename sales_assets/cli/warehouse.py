"""`sales-assets warehouse`: print the warehouse's address, or stop the embedded server."""

import typer

from sales_assets.cli.console import out

app = typer.Typer(help="The warehouse's address and the embedded server.", no_args_is_help=True)


@app.command("url")
def warehouse_url_command() -> None:
    """Print the libpq URL of the warehouse, for `psql "$(sales-assets warehouse url)"`.

    Without WAREHOUSE_URL, starts the embedded server, which runs until `sales-assets warehouse stop`.
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
    out.print("the embedded server was stopped")
