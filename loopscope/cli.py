"""The command line. A LoopscopeError is printed as one red sentence, with exit code 2."""

# Imports inside the commands are for speed only: the help then needs no torch.

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from .commands.check import check
from .commands.findings import app as findings_app
from .commands.measure import measure
from .commands.use_option import Use
from .common import discovery
from .common.architecture_shelf import ARCHITECTURES
from .common.command_options import AsJson, BudgetOption, Entry, Examples, Iterations, Source, Texts, Trust
from .common.errors import LoopscopeError


class _ErrorsAsSentences(TyperGroup):
    """Prints the sentence of a LoopscopeError without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LoopscopeError as error:
            Console(stderr=True, soft_wrap=True).print(Text(str(error), style="red"))
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_ErrorsAsSentences,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Record and analyse what a looped transformer does in each iteration.",
)


@app.command("models")
def list_models(
    names: Annotated[bool, typer.Option("--names", help="Print only the names, one per line.")] = False,
) -> None:
    """List the trained entries of the zoo and of installed packages."""
    from . import models

    if names:
        typer.echo("\n".join(models.entries()))
        return
    from .reports.zoo_table import print_zoo_table

    print_zoo_table()
    packages = ARCHITECTURES.packages()
    named = [f"{name} ({packages[name]})" if name in packages else name for name in models.names()]
    typer.echo(f"Architectures: {', '.join(named)}. Show an entry's card: loopscope card NAME.")


@app.command()
def card(name: Entry) -> None:
    """Print the card of an entry: how it was trained and what was measured. Of a checkpoint without
    a card, what its header says."""
    from . import models

    if models.path(name).with_suffix(".md").is_file():
        typer.echo(models.card(name))
        return
    from .reports.entry_card import header_card

    typer.echo(header_card(name))


@app.command()
def train(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An entry that has a recipe, or a file of yours (mine.py[:NAME])."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the log and the weights. Default: runs/NAME.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many optimiser steps. Default: the recipe's.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed to use instead of the recipe's; the folder is then runs/NAME-SEED."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Start again, or resume from the last checkpoint.")
    ] = False,
    use: Use = None,
) -> None:
    """Train an entry by its recipe. Run the command again to resume a training that was stopped."""
    from .training import named_recipe
    from .training import train as run_recipe

    source, name = name, named_recipe(name)[0]
    folder = Path("runs") / (name if seed is None else f"{name}-{seed}") if out is None else out
    run_recipe(source, out=folder, steps=steps, seed=seed, resume=not fresh)
    typer.echo(f"Wrote {folder / name}.safetensors. Pass its path to loopscope measure or to ls.models.load.")


@app.command()
def sweep(
    grid: Annotated[
        Path, typer.Argument(metavar="GRID", help="A TOML file with a recipe and the values to vary.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("sweep.html"),
    folder: Annotated[Path | None, typer.Option(help="Folder for the trainings. Default: runs/GRID.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes. Default: one per core. 0: train in this process."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask cluster whose workers share the folder.")
    ] = None,
    use: Use = None,
) -> None:
    """Train a grid of recipes and write a page about it. Run it again to train what is missing."""
    from .sweeps import sweep as run_grid

    result = run_grid(grid, folder, workers=workers, scheduler=scheduler)
    result.page().save(output)
    typer.echo(f"{result} Wrote {output} and {result.folder / 'results.json'}.")
    if not result.complete:
        raise typer.Exit(1)


app.command()(measure)


@app.command()
def probe(
    name: Source,
    fact: Annotated[str | None, typer.Option(help="A fact of the task to predict. Default: answer.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Predict your own labels: a safetensors file with a tensor labels and optionally mask."
        ),
    ] = None,
    site: Annotated[
        list[str] | None, typer.Option(help="A site to read. Repeat it for several. Default: state.")
    ] = None,
    positions: Annotated[
        str | None, typer.Option(help="each, shared, pooled or a number. Default: what fits the labels.")
    ] = None,
    as_json: AsJson = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to save the probes in.")] = None,
    iterations: Iterations = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples to record.")] = 512,
    seed: Annotated[int, typer.Option(help="Seed of the examples and of the folds.")] = 0,
    text: Texts = None,
    trust_remote_code: Trust = False,
    use: Use = None,
) -> None:
    """Train linear probes on the states and print their scores. A saved run is read in parts."""
    from .probing import Probes
    from .probing.labels import read_labels
    from .run_loading import is_checkpoint, named_run

    if fact is not None and labels is not None:
        raise LoopscopeError(
            "Probes must be given either a fact or labels, but --fact and --labels were both given. Leave "
            "one out."
        )
    sites = site or ["state"]
    target, mask = (fact or "answer", None) if labels is None else read_labels(labels)
    saved = name.endswith(".safetensors") and not is_checkpoint(name)
    more = {"trust_remote_code": trust_remote_code, "sites": sites}
    run = name if saved else named_run(name, iterations, examples, seed, text or [], **more)
    position = int(positions) if positions is not None and positions.lstrip("-").isdigit() else positions
    result = Probes.fit(run, target, mask=mask, sites=sites, positions=position, seed=seed)
    if output is not None:
        result.save(output)
    typer.echo(json.dumps(result.to_dict(), allow_nan=False) if as_json else str(result))


@app.command()
def report(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME ...",
            help="An entry, a checkpoint, a saved run, a training's folder or a Hugging Face model; several "
            "entries or runs are compared.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    analyses: Annotated[
        str | None, typer.Option(help="Analyses, separated by commas. Default: all that apply.")
    ] = None,
    iterations: Iterations = None,
    examples: Examples = None,
    seed: Annotated[int, typer.Option(help="Seed of the examples.")] = 0,
    cdn: Annotated[
        bool, typer.Option("--cdn", help="Load plotly from its server: 5 MB less, but it needs a network.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write every figure into this folder too.")
    ] = None,
    format: Annotated[Literal["svg", "png"], typer.Option(help="Of these figures.")] = "svg",
    json: Annotated[
        bool, typer.Option("--json/--no-json", help="Write the page's numbers next to it.")
    ] = True,
    text: Texts = None,
    trust_remote_code: Trust = False,
    budget: BudgetOption = None,
    use: Use = None,
) -> None:
    """Write one self-contained HTML page about an entry, a run, a training or a model."""
    from .reports import report as write
    from .reports.figure_files import check_figures

    if figures is not None:
        check_figures()
    chosen = None if analyses is None else [one.strip() for one in analyses.split(",") if one.strip()]
    page = write(
        names, chosen, iterations=iterations, examples=examples, seed=seed, texts=text or [], cdn=cdn,
        trust_remote_code=trust_remote_code, budget=budget,
    )  # fmt: skip
    page.save(output, json=json)
    files = [output, *([output.with_suffix(".json")] if json else [])]
    typer.echo(f"Wrote {' and '.join(map(str, files))}")
    if figures is not None:
        typer.echo(f"Wrote {len(page.save_figures(figures, format))} figures into {figures}")


@app.command()
def new(
    kind: Annotated[
        Literal["model", "task", "analysis", "adapter"],
        typer.Argument(metavar="KIND", help="model, task, analysis or adapter."),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the file, such as my_model.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write it into.")] = Path(),
) -> None:
    """Write your own model, task, analysis or adapter, which runs, and its test."""
    from .shelves import new as write

    typer.echo(f"Wrote {' and '.join(map(str, write(kind, name, folder)))}")


app.command()(check)
app.add_typer(findings_app, name="findings")


@app.command()
def copy(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Such as models/universal.py or analyses/cycles.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to copy it into.")] = Path(),
    rename: Annotated[
        str | None,
        typer.Option("--name", help="Name of the copy, by which it can be trained and loaded beside ours."),
    ] = None,
) -> None:
    """Copy a model's file or an analysis' folder, to change it there."""
    shelf, _, name = file.rstrip("/").rpartition("/")
    if not shelf:
        raise LoopscopeError(
            f"The file must be named with its shelf, but is {file!r}. Write e.g. models/universal.py."
        )
    typer.echo(f"Wrote {discovery.copy(shelf, name, folder, rename)}")


if __name__ == "__main__":
    app()
