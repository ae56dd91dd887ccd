"""The arguments and options that several commands share."""

from typing import Annotated

import typer

Entry = Annotated[
    str, typer.Argument(metavar="NAME", help="A trained entry, such as universal-prefix-parity.")
]
Analysis = Annotated[
    str, typer.Argument(metavar="ANALYSIS", help="An analysis, such as convergence, or your own file.")
]
Source = Annotated[
    str,
    typer.Argument(metavar="NAME", help="An entry, a saved run or checkpoint file, or a Hugging Face model."),
]
Iterations = Annotated[
    int | None, typer.Option(min=1, help="Iterations to record. Default: the model's own depth.")
]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        help="A text for a Hugging Face model to read. Repeat it for several. Default: random tokens.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run the code that comes with a Hugging Face model. Read it first."
    ),
]
Examples = Annotated[
    int | None,
    typer.Option(min=1, help="Examples to record. Default: 64 for an entry, 8 for a Hugging Face model."),
]

BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT",
        help="What it may cost: a time (90 s, 2 min) or forward passes of the batch (500). What is cut down "
        "or left out is said.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHO",
        help="Who computes the blocks of a large run: threads, processes, or the address of a dask "
        "scheduler, such as tcp://10.0.0.1:8786. Default: threads, where there is much to do.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
