"""`sales-assets contract`: print the mart's data contract for its readers."""

from enum import StrEnum
from typing import Annotated

import typer


class ContractFormat(StrEnum):
    """Output format of `sales-assets contract`."""

    ODCS = "odcs"
    DBT = "dbt"


def contract(
    contract_format: Annotated[
        ContractFormat,
        typer.Argument(metavar="FORMAT", help="odcs: an Open Data Contract Standard file; dbt: a sources file."),
    ],
) -> None:
    """Print the mart's data contract for its readers: tables, columns, types, keys, references and rules.

    Example: `sales-assets contract dbt > models/sources.yml`. It is made from the column schemas that the Dagster UI
    shows, and needs no warehouse.
    """
    import yaml

    from sales_assets.definitions import defs
    from sales_assets.defs.reader_contract import dbt_sources, odcs

    specs = defs().resolve_all_asset_specs()
    document = odcs(specs) if contract_format is ContractFormat.ODCS else dbt_sources(specs)
    print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), end="")  # noqa: T201
