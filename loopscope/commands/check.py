"""loopscope check: the self-check of a model by its name."""

from typing import Annotated

import typer
from rich.console import Console

from ..common.command_options import AsJson, Texts, Trust
from .use_option import Use


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An entry, a checkpoint, a Hugging Face model, or a file of yours (mine.py[:NAME]).",
        ),
    ],
    body: Annotated[
        list[str] | None,
        typer.Option(help="The part that repeats, where a Hugging Face model is of no known family."),
    ] = None,
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Seed of random tokens and of what the model draws.")] = 0,
    text: Texts = None,
    trust_remote_code: Trust = False,
    use: Use = None,
) -> None:
    """Check that recordings of a model are what it computes. Exit code 1 if a check fails."""
    from ..checks import check as run_checks
    from ..checks.model_file import is_model_file
    from ..run_loading import named_model

    if is_model_file(name) and not text and not body:
        model, tokens = name, None
    else:
        model, tokens = named_model(name, text or [], body=body, trust_remote_code=trust_remote_code)
    result = run_checks(model, tokens, seed=seed)
    if as_json:
        typer.echo(result.to_json())
    else:
        Console().print(result) if Console().is_terminal else typer.echo(str(result))
    raise typer.Exit(0 if result.passed else 1)
