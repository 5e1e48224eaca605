"""`sales-assets dagster-yaml`: print a template of dagster.yaml."""

from typing import Annotated

import typer

from sales_assets.deploy.templates import Template


def dagster_yaml(
    template: Annotated[Template, typer.Argument(help="Where runs are executed.")] = Template.ONE_MACHINE,
) -> None:
    """Print a commented dagster.yaml: `sales-assets dagster-yaml celery > "$DAGSTER_HOME/dagster.yaml"`.

    You own the file: the platform writes the one for one machine if none exists, and never changes it afterwards.
    """
    from sales_assets.deploy.instance import configuration_text

    print(configuration_text(template), end="")  # noqa: T201  rich would wrap it
