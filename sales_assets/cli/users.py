"""`sales-assets users`: add, list and remove the users of the admin pages."""

import sys
from typing import Annotated

import typer

from sales_assets.cli.console import out

app = typer.Typer(
    help="""Users of the admin pages at /admin: their names and hashed passwords, in SALES_USERS_FILE.""",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name of the user, as shown in the audit trail.")]


@app.command("add")
def users_add(name: Name) -> None:
    """Add a user, or change the password. Asks for the password; without a terminal it is read from stdin.

    Services that were started without any user show the pages after a restart. A new password ends the user's sessions.
    """
    from sales_assets.services.http.users import UsersFile
    from sales_assets.settings import settings

    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    is_new = UsersFile(settings().users_file).add(name, password)
    out.print(f"{name}: {'added' if is_new else 'password changed'}")


@app.command("list")
def users_list() -> None:
    """List the names of the users."""
    from sales_assets.services.http.users import UsersFile
    from sales_assets.settings import settings

    for name in UsersFile(settings().users_file).users().hashes:
        out.print(name)


@app.command("remove")
def users_remove(name: Name) -> None:
    """Remove a user and end the user's sessions."""
    from sales_assets.services.http.users import UsersFile
    from sales_assets.settings import settings

    UsersFile(settings().users_file).remove(name)
    out.print(f"{name}: removed")
