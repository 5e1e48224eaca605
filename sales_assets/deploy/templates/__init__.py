"""Templates of dagster.yaml, one per way to execute runs."""

from enum import StrEnum


class Template(StrEnum):
    """Name of a template: where Dagster's runs are executed."""

    ONE_MACHINE = "one-machine"
    CELERY = "celery"
    KUBERNETES = "kubernetes"
