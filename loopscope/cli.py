"""The command line. A LoopscopeError is one red sentence and exit code 2; heavy parts are imported
by the command that needs them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from . import models
from .common import discovery
from .common.errors import LoopscopeError

_NUMBERS = {"parameters", "iterations", "accuracy"}

Entry = Annotated[
    str, typer.Argument(metavar="NAME", help="A trained entry, such as universal-prefix-parity.")
]

Texts = Annotated[
    list[str] | None,
    typer.Option("--text", help="What a Hugging Face model reads, once per text; random tokens without any."),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run the code that comes with a Hugging Face model. Read it first."
    ),
]


class _Sentences(TyperGroup):
    """Says what went wrong in the error's own sentence, without a traceback: it was written for the
    reader."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LoopscopeError as error:
            Console(stderr=True, soft_wrap=True).print(Text(str(error), style="red"))
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Sentences,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Watch what a looped transformer does from one iteration to the next.",
)


@app.command("models")
def list_models(
    names: Annotated[bool, typer.Option("--names", help="Only the names, one a line.")] = False,
) -> None:
    """List the trained entries of the zoo."""
    if names:
        for entry in models.entries():
            typer.echo(entry)
        return
    table = Table("entry", "architecture", "task", "parameters", "iterations", "accuracy", box=SIMPLE_HEAD)
    for column in table.columns:
        column.no_wrap, column.justify = True, "right" if column.header in _NUMBERS else "left"
    for entry in models.entries():
        header = models.header(entry)
        accuracy = header.get("measured", {}).get("accuracy")
        row = [
            entry,
            header["architecture"],
            header["task"]["name"],
            f"{models.parameters(entry):,}",
            str(header.get("measured", {}).get("iterations", header["config"].get("iterations", ""))),
            "" if accuracy is None else f"{accuracy:.2%}",
        ]
        table.add_row(*map(Text, row))
    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.width = max(console.width, needed)  # a name cut short can't be typed
    console.print(table)
    typer.echo(f"Architectures: {', '.join(models.names())}. Show an entry's card: loopscope card NAME.")


@app.command()
def card(name: Entry) -> None:
    """Print an entry's card: how it was made and what was measured."""
    typer.echo(models.card(name))


@app.command()
def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An entry whose recipe is to be run.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the log and the weights; runs/NAME.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps, if not the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="In place of the recipe's; runs/NAME-seed.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Begin again, or go on from the last checkpoint.")
    ] = False,
) -> None:
    """Train an entry by its recipe; run it again to go on where it was stopped."""
    from .training import train as run_recipe

    folder = Path("runs") / (name if seed is None else f"{name}-{seed}") if out is None else out
    run_recipe(name, out=folder, steps=steps, seed=seed, resume=not fresh)
    typer.echo(
        f"Wrote {folder / name}.safetensors: loopscope measure and ls.models.load take it by its path."
    )


@app.command()
def sweep(
    grid: Annotated[Path, typer.Argument(metavar="GRID", help="A TOML file: a recipe and what is varied.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("sweep.html"),
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the trainings; runs/ and the grid's name.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes; one for each core. 0: one after another in this one."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask cluster that sees the folder, for its workers.")
    ] = None,
) -> None:
    """Train a grid and write one page about it; run it again to train only what is missing."""
    from .sweeps import sweep as run_grid

    result = run_grid(grid, folder, workers=workers, scheduler=scheduler)
    result.page().save(output)
    typer.echo(f"{result} Wrote {output} and {result.folder / 'results.json'}.")
    if not result.complete:
        raise typer.Exit(1)


@app.command()
def measure(
    analysis: Annotated[str, typer.Argument(metavar="ANALYSIS", help="A question, such as convergence.")],
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An entry, a saved run or checkpoint file, or a Hugging Face model."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the finding as JSON.")] = False,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Iterations to record; the model's own depth.")
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(min=1, help="Examples to record: 64 of an entry's task, 8 of a Hugging Face model."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which examples.")] = 0,
    text: Texts = None,
    trust_remote_code: Trust = False,
) -> None:
    """Put a question to a recorded run and print what was found."""
    from . import analyses

    discovery.checked_name("analysis", analysis, analyses.names())  # said before anything is recorded
    if getattr(discovery.module("analyses", analysis), "SUBJECT", "run") == "history":
        from .training.history import load_history

        result = analyses.measure(analysis, load_history(name))
    else:
        run = _run(name, iterations, examples, seed, text or [], trust_remote_code)
        result = analyses.measure(analysis, run)
    typer.echo(result.to_json() if as_json else str(result))


@app.command()
def probe(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An entry, a saved run or checkpoint file, or a Hugging Face model."
        ),
    ],
    fact: Annotated[
        str | None, typer.Option(help="What to look for: a fact of the task, such as answer, the default.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Or labels of your own: a safetensors file with the tensor labels, and perhaps mask."
        ),
    ] = None,
    site: Annotated[list[str] | None, typer.Option(help="What is read, once per site; state.")] = None,
    positions: Annotated[
        str | None, typer.Option(help="each, shared, pooled, or a number; as the labels are, unless given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to save the probes.")] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Iterations to record; the model's own depth.")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples to record.")] = 512,
    seed: Annotated[int, typer.Option(help="Which examples, and how they are divided.")] = 0,
    text: Texts = None,
    trust_remote_code: Trust = False,
) -> None:
    """Train linear probes on the states and print what can be read off them. A saved run is read
    piece by piece."""
    from .probing import Probes
    from .probing.labels import read_labels

    if fact is not None and labels is not None:
        raise LoopscopeError(
            "probes learn a fact or labels of your own, but --fact and --labels were both given. Leave one "
            "out."
        )
    sites = site or ["state"]
    given, mask = (fact or "answer", None) if labels is None else read_labels(labels)
    saved = name.endswith(".safetensors") and not _is_checkpoint(name)
    run = name if saved else _run(name, iterations, examples, seed, text or [], trust_remote_code, sites)
    where = int(positions) if positions is not None and positions.lstrip("-").isdigit() else positions
    result = Probes.fit(run, given, mask=mask, sites=sites, positions=where, seed=seed)
    if output is not None:
        result.save(output)
    typer.echo(json.dumps(result.to_dict(), allow_nan=False) if as_json else str(result))


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An entry, or a Hugging Face folder or name.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    text: Texts = None,
    trust_remote_code: Trust = False,
) -> None:
    """Write one self-contained HTML page about an entry or a Hugging Face model."""
    from .recorder import pretrained as hub
    from .reports import report as write

    known = name in models.entries() or not hub.is_pretrained_name(name)
    run = (
        name if known else hub.record_pretrained(name, texts=text or [], trust_remote_code=trust_remote_code)
    )
    write(run).save(output)
    typer.echo(f"Wrote {output}")


@app.command()
def copy(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Such as models/universal.py.")],
    folder: Annotated[Path, typer.Argument(help="Where to.")] = Path(),
) -> None:
    """Copy a model or an analysis into a folder, to own it and change it there."""
    where, _, name = file.rpartition("/")
    if not where:
        raise LoopscopeError(
            f"The file must be named with its discovery, but is {file!r}. Write e.g. models/universal.py."
        )
    typer.echo(f"Wrote {discovery.copy(where, name, folder)}")


def _run(
    name: str,
    iterations: int | None,
    examples: int | None,
    seed: int,
    texts: list[str],
    trust_remote_code: bool,
    sites: Sequence[str] = (),
) -> Any:
    """The saved run of that name, or a fresh recording of an entry, a checkpoint or a Hugging Face
    model."""
    from .core.sites import is_state
    from .recorder import pretrained as hub
    from .recorder.record_run import record
    from .run_loading import load_run

    if name.endswith(".safetensors") and not _is_checkpoint(name):
        if iterations is not None:
            raise LoopscopeError(
                f"{name} is recorded already, so --iterations={iterations} can't be heard. "
                "Leave it out, or name the entry."
            )
        return load_run(name)
    if name not in models.entries() and hub.is_pretrained_name(name):
        many = examples or hub.EXAMPLES
        return hub.record_pretrained(
            name, iterations, texts, many, seed=seed, trust_remote_code=trust_remote_code
        )
    if texts:
        raise LoopscopeError(
            f"--text is read by a Hugging Face model's tokenizer, but {name} has none. Leave it out."
        )
    model = models.load(name)
    inside = [site for site in sites if not is_state(site)]
    return record(model, model.task.batch(examples or 64, seed=seed).tokens, iterations, sites=inside)


def _is_checkpoint(name: str) -> bool:
    try:
        return bool(models.header(name))
    except LoopscopeError:
        return False


if __name__ == "__main__":
    app()
