"""loopscope findings: published findings, listed, shown and run again."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..common.command_options import AsJson
from ..common.errors import LoopscopeError
from .use_option import Use

app = typer.Typer(help="List published findings, and run them again.", invoke_without_command=True)

Which = Annotated[
    str, typer.Argument(metavar="FINDING", help="A number, a name, or a file of yours (my_finding.py).")
]
Page = Annotated[Path | None, typer.Option("--page", help="Write a page with its figures into this file.")]


@app.callback(invoke_without_command=True)
def table(context: typer.Context, as_json: AsJson = False, use: Use = None) -> None:
    """List published findings with their criterion's outcome; run them again with run."""
    if context.invoked_subcommand is not None:
        return
    from .. import findings
    from ..replication.table import findings_table

    results = findings.results()
    if as_json:
        typer.echo(json.dumps([one.to_dict() for one in results], allow_nan=False))
        return
    Console().print(findings_table(results))
    typer.echo("Show one: loopscope findings show N. Run one again: loopscope findings run N.")


@app.command()
def show(which: Which, as_json: AsJson = False, page: Page = None, use: Use = None) -> None:
    """Show a finding: claim, metric, criterion, and what was measured."""
    from .. import findings

    one = findings.result(which)
    typer.echo(json.dumps(one.to_dict(), allow_nan=False) if as_json else str(one))
    _write_page(one, page)


@app.command()
def run(
    which: Annotated[
        str, typer.Argument(metavar="FINDING", help="A number, a name, a file of yours, or all.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds; three decide.")] = 3,
    workers: Annotated[
        int, typer.Option(min=0, help="Worker processes of one thread. 0: one seed after another here.")
    ] = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask cluster whose workers share the folder.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder for trainings and measurements. Default: runs/findings.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was measured.")] = False,
    page: Page = None,
    use: Use = None,
) -> None:
    """Train and measure a finding for its seeds. Run it again to go on where it was stopped."""
    from .. import findings
    from ..replication import store
    from ..replication.replicate import replicate
    from ..replication.work import TRAININGS

    names = list(findings.numbers().values()) if which == "all" else [findings.name_of(which)]
    before = {name: store.load(name) for name in names}
    place = folder or store.RUNS
    typer.echo(f"Trainings are kept in {place / TRAININGS}, each with its log.", err=True)
    failed = 0
    for work, outcome in replicate(
        names,
        seeds=seeds,
        workers=workers,
        scheduler=scheduler,
        folder=place,
        fresh=fresh,
        started=lambda work: typer.echo(f"{work.name}, seed {work.seed} ...", err=True),
    ):
        is_error = isinstance(outcome, LoopscopeError)
        failed += is_error
        typer.echo(str(outcome) if is_error else _line(work, outcome), err=True)
    for name in names:
        _report(before[name], store.load(name))
    _write_page(store.load(names[0]), page if len(names) == 1 else None)
    if failed:
        raise typer.Exit(1)


@app.command()
def draw(which: Which, use: Use = None) -> None:
    """Draw the seeds of a finding from the commit that its file is in."""
    from .. import findings

    typer.echo(f"Seeds: {', '.join(map(str, findings.draw(which)))}")


@app.command()
def note(
    which: Which,
    text: Annotated[str, typer.Argument(help="Why it came out so, as far as it is known.")],
    use: Use = None,
) -> None:
    """Write a sentence on the reason into the results of a finding."""
    from .. import findings

    findings.note(which, text)


@app.command()
def docs() -> None:
    """Write docs/findings.md of a checkout from the results."""
    from ..replication.docs_page import write_docs

    typer.echo(f"Wrote {write_docs()}")


def _line(work: Any, outcome: Any) -> str:
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in outcome.values.items())
    return f"{work.name}, seed {work.seed}: {numbers} ({outcome.seconds:,.0f} s)"


def _report(before: Any, after: Any) -> None:
    """Print what was measured and, where it differs, what was stated before."""
    typer.echo(str(after))
    if before.numbers and before.numbers != after.numbers:
        typer.echo("Stated before:\n" + "\n".join(f"  {line}" for line in before.figures))


def _write_page(one: Any, page: Path | None) -> None:
    if page is not None:
        from .. import findings

        findings.page(one.name).save(page)
        typer.echo(f"Wrote {page}")
