"""Output of the commands: consoles for stdout and stderr, and a progress bar."""

import sys

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
    """Progress bar on stderr; its `resource` receives the progress of a load."""

    def __enter__(self) -> "ProgressBar":
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        from sales_assets.pipeline.progress import Progress

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bars = Bars(*columns, TimeElapsedColumn(), console=err, transient=True)
        task = bars.add_task("starting", total=None)

        class Terminal(Progress):
            def notify(self, text: str) -> None:
                bars.update(task, description=text)
                if not err.is_terminal:
                    err.print(text)

            def days_ahead(self, number: int) -> None:
                bars.update(task, total=number, completed=0)

            def days_done(self, number: int) -> None:
                bars.advance(task, number)

        self.resource = Terminal()
        self._bars = bars
        bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
