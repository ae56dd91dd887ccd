"""The command `measure`: runs an analysis and prints its result."""

# Imports inside the command are for speed only: the help then needs no torch.

from typing import Annotated

import typer

from ..common.command_options import (
    Analysis,
    AsJson,
    BudgetOption,
    Examples,
    Iterations,
    SchedulerOption,
    Source,
    Texts,
    Trust,
)
from .use_option import Use


def measure(
    analysis: Analysis,
    name: Source,
    as_json: AsJson = False,
    iterations: Iterations = None,
    examples: Examples = None,
    seed: Annotated[int, typer.Option(help="Seed of the examples.")] = 0,
    text: Texts = None,
    trust_remote_code: Trust = False,
    budget: BudgetOption = None,
    scheduler: SchedulerOption = None,
    use: Use = None,
) -> None:
    """Run an analysis and print its result."""
    from .. import analyses

    analysis = analyses.name_of(analysis)  # before anything is recorded
    if getattr(analyses.module(analysis), "SUBJECT", "run") == "history":
        from ..training.history import load_history

        result = analyses.measure(analysis, load_history(name))
    else:
        from ..run_loading import named_run

        run = named_run(name, iterations, examples, seed, text or [], trust_remote_code=trust_remote_code)
        result = analyses.measure(analysis, run, budget=budget, scheduler=scheduler)
    typer.echo(result.to_json() if as_json else str(result))
