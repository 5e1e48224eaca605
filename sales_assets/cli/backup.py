"""`sales-assets backup` and `restore`: warehouse, Dagster's storage and raw files as of one moment."""

from pathlib import Path
from typing import Annotated

import typer

from sales_assets.cli.console import err, out


def backup(
    path: Annotated[Path, typer.Argument(help="New folder for the backup, readable by you alone.")],
) -> None:
    """Back up the warehouse, Dagster's storage and the raw files as of one moment, while loads continue.

    The folder appears when it is complete. It contains names and phones. Settings (.env, dagster.yaml), the logs of
    runs, the lake and the broker's queues are not part of it. A missing or damaged raw file is reported, and the
    exit code is 1, but everything else is backed up.

    Example: `sales-assets backup /backups/2024-10-03`.
    """
    from sales_assets.deploy.backup import write_backup

    manifest = write_backup(path, err.print)
    rows = sum(sum(database.rows.values()) for database in manifest.databases.values())
    out.print(
        f"{path}: {rows} rows in {len(manifest.databases)} databases, {len(manifest.raw_files)} raw files, as of "
        f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    for reason in manifest.damaged.values():
        err.print(f"not backed up: {reason}", style="bold red")
    if manifest.damaged:
        raise typer.Exit(1)


def restore(
    path: Annotated[Path, typer.Argument(help="Folder of a backup.")],
    no_privileges: Annotated[
        bool, typer.Option("--no-privileges", help="Do not restore the privileges of other roles.")
    ] = False,
) -> None:
    """Restore a backup to the configured databases, which must be empty, and the configured location of raw files.

    Everything is verified first, and nothing that exists is replaced: choose a new SALES_HOME, or new databases in
    WAREHOUSE_URL and DAGSTER_STORAGE_URL. To complete an interrupted restore, run the same command again. Restore only
    backups that you trust: a dump consists of statements.
    """
    from sales_assets.deploy.backup import restore_backup
    from sales_assets.postgres.migrations import latest_revision

    restored = restore_backup(path, err.print, privileges=not no_privileges)
    manifest = restored.manifest
    # A database that only has other values is not recognized.
    done = "restored" if restored.databases else "nothing restored: the databases already have as many rows as"
    out.print(f"{done} the backup of {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC")
    for reason in manifest.damaged.values():
        err.print(f"not part of the backup: {reason}", style="yellow")
    if restored.events or restored.messages:
        err.print(
            f"waiting as of the backup: {restored.events} events of partner orders, {restored.messages} messages and "
            "mailings; the services will send them again, even if they were sent after the backup",
            style="yellow",
        )
    if manifest.revision != latest_revision():
        out.print("next: `sales-assets migrate`, the backup has an older schema")
    else:
        out.print("next: `sales-assets doctor`")
