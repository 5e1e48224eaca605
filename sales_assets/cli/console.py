"""Output of the commands: consoles for stdout and stderr, and a progress bar."""

import os
import sys
from contextlib import ExitStack

from rich.console import Console

INTERRUPTED = 130  # exit code: 128 and the number of SIGINT, as shells count


def _console(*, stderr: bool) -> Console:
    return Console(
        stderr=stderr,
        soft_wrap=True,
        # Output that isn't a terminal is read by programs: don't cut lines to 80 columns.
        width=None if (sys.stderr if stderr else sys.stdout).isatty() else 240,
        # File names, reasons and rejected rows are external input: don't interpret brackets as markup, colons as emoji.
        markup=False,
        emoji=False,
        highlight=False,
    )


out = _console(stderr=False)
err = _console(stderr=True)


def print_error(text: str) -> None:
    """Print an error in red on stderr."""
    err.print(f"error: {text}", style="bold red")


class ProgressBar:
    """Progress bar on stderr; without a terminal, a line for each text. Its `resource` receives the progress."""

    def __enter__(self) -> "ProgressBar":
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        from sales_assets.pipeline.progress import Progress

        class Lines(Progress):
            """Print each text once."""

            last = ""

            def notify(self, text: str) -> None:
                if text != self.last:
                    err.print(text)
                self.last = text

        self._stack = ExitStack()
        if not err.is_terminal:
            self.resource: Progress = Lines()
            return self
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        # Dagster replaces descriptor 2 by a pipe while ops run, to record their output.
        terminal = self._stack.enter_context(
            open(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding)  # noqa: PTH123  of a descriptor
        )
        console = Console(file=terminal, soft_wrap=True, markup=False, emoji=False, highlight=False)
        bars = Bars(*columns, TimeElapsedColumn(), console=console, transient=True)
        task = bars.add_task("starting", total=None)

        class Terminal(Progress):
            """Move the bar."""

            def notify(self, text: str) -> None:
                bars.update(task, description=text)

            def days_ahead(self, number: int) -> None:
                bars.update(task, total=number, completed=0)

            def days_done(self, number: int) -> None:
                bars.advance(task, number)

        self.resource = Terminal()
        self._stack.enter_context(bars)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
