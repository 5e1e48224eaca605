"""Dagster's decorators for sensors and schedules, with the docstring as the description, as for assets and jobs."""

import inspect
from collections.abc import Callable
from typing import Any

import dagster as dg


def sensor(**options: Any) -> Callable[[Callable[..., Any]], dg.SensorDefinition]:
    """Define a sensor with the options of `dg.sensor`."""
    return lambda function: dg.sensor(description=inspect.getdoc(function), **options)(function)


def schedule(**options: Any) -> Callable[[Callable[..., Any]], dg.ScheduleDefinition]:
    """Define a schedule with the options of `dg.schedule`."""
    return lambda function: dg.schedule(description=inspect.getdoc(function), **options)(function)
