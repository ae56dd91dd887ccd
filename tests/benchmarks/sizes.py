"""What one model of real size costs: `make sizes`, which writes docs/sizes.md.

A looped transformer of random weights is recorded and measured on one thread of the processor, each
task in a process of its own, so that its peak of memory is its own. `python -m
tests.benchmarks.sizes TASK` runs one task and prints its figures as JSON. After an interruption it
goes on: figures are kept in runs/sizes until the page is whole.
"""

import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import loopscope as ls
from loopscope.dynamics.iteration_map import IterationMap
from loopscope.dynamics.point_spectrum import spectrum_at

CONFIG = {"vocabulary": 512, "width": 1536, "heads": 12, "iterations": 8}
EXAMPLES, POSITIONS, ITERATIONS = 4, 16, 8
PAGE = Path(__file__).parents[2] / "docs" / "sizes.md"
FIGURES = Path("runs") / "sizes"
ANALYSES = ("convergence", "cycles", "geometry", "lens", "fixed_points", "stability")


def model() -> Any:
    torch.manual_seed(0)
    return ls.models.build("huginn", **CONFIG).eval()


def recorded() -> ls.Run:
    generator = torch.Generator().manual_seed(0)
    return ls.record(
        model(), torch.randint(0, 512, (EXAMPLES, POSITIONS), generator=generator), iterations=ITERATIONS
    )


def analysis(name: str) -> Callable[[ls.Run], str]:
    """The task that measures it whole, and says its verdict and price."""

    def task(run: ls.Run) -> str:
        price = ls.analyses.price(name, run).text
        verdict = ls.analyses.measure(name, run).verdict.name.replace("_", " ")
        return f'{"none" if price == "0 passes" else price} besides the recording; verdict: "{verdict}"'

    return task


def spectral_radius(run: ls.Run) -> str:
    loop = IterationMap(run, [0], double=False)
    result = spectrum_at(loop, loop.at(ITERATIONS, run))
    size = f"for the last state of one example ({loop.starts.shape[1]:,} numbers)"
    error = float(result.error[0, 0])
    bound = f"± {error:.1g}" if error < math.inf else "without an error bound"
    return f"{float(result.radius[0]):.4f} {bound}, {size}. {result.sentences[0]}"


def grid(run: ls.Run) -> str:
    cells = ls.effects(run, "zero", iterations=[0, 4, 8], positions=[0, 5, 10, 15])
    return f"{cells.mean.shape[1] * cells.mean.shape[2]} cells, exactly"


def attribution(run: ls.Run) -> str:
    cells = ls.effects(run, "zero", method="attribution", exact_cells=0)
    return f"{cells.mean.shape[1] * cells.mean.shape[2]} cells, to first order"


def report(run: ls.Run) -> str:
    """Under the budget that a page of a large model has of its own accord."""
    page = ls.report(run)
    prices = {one["part"]: re.search(r"costs ([0-9.,]+ passes)", one["why"]) for one in page.data["left_out"]}
    parts = [f"{part} ({price[1]} at least)" for part, price in prices.items() if price]
    cuts = [
        f"{name} was cut down"
        for name, result in page.data["results"].items()
        if "where the whole costs" in json.dumps(result)
    ]
    what = "; ".join([*cuts, *([f"left out: {', '.join(parts)}"] if parts else [])])
    return f"{len(page.data['results'])} analyses; {what or 'nothing was left out'}"


TASKS: dict[str, Callable[[ls.Run], str]] = {
    "one bare forward": lambda run: str(run.model(run.tokens, iterations=ITERATIONS).shape and ""),
    "spectral radius": spectral_radius,
    "patch grid": grid,
    "attribution grid": attribution,
    **{name: analysis(name) for name in ANALYSES},
    "report": report,
}


def measured(name: str) -> dict[str, Any]:
    """Seconds of the clock and of the processor, and the peak of memory, of one task."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    clock, processor = time.monotonic(), time.process_time()
    run = recorded()
    begin = {"record seconds": time.monotonic() - clock, "record processor": time.process_time() - processor}
    begin["record peak"] = peak()
    clock, processor = time.monotonic(), time.process_time()
    with torch.no_grad():
        note = TASKS[name](run)
    return begin | {
        "seconds": time.monotonic() - clock,
        "processor": time.process_time() - processor,
        "peak": peak(),
        "note": note,
        "load": os.getloadavg()[0],
        "parameters": sum(p.numel() for p in run.model.parameters()),
    }


def peak() -> float:
    """Gigabytes, the highest of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


NOTES = """A pass is a forward pass of all examples; the number of passes is what loopscope
estimates before it measures. The weights are random, so verdicts mean nothing about a trained model:
they only show that the analysis ran to its end."""
LIMITS = """What to expect at this size. A report has a budget, and leaves out the analyses that cost
more than is left of it, such as fixed points, path independence and stability. Each of them can be
measured by itself, with the budget that the report names. The spectral radius may come without an
error bound: random weights have many eigenvalues of nearly the same size, which can't be told apart
within the number of Jacobian products that is allowed for a long state. `stability` takes a larger
number as `products=`. An analysis that continues the loop in double precision makes a copy of the
weights, which is twice as large as they are."""


def page(rows: dict[str, dict[str, Any]]) -> str:
    first = next(iter(rows.values()))
    size = f"{first['parameters'] / 1e6:.0f} million parameters"
    load, weights = max(row["load"] for row in rows.values()), first["parameters"] * 4 / 1e9
    text = (
        f"`make sizes` writes this page. The model has the architecture of Huginn, {size} and random "
        f"weights in float32. It runs {ITERATIONS} iterations on {EXAMPLES} examples of {POSITIONS} tokens, "
        f"on one thread of {platform.machine()}, and each task has a process of its own. Peak is the most "
        f"memory that the process held. The weights are {weights:.2f} GB of it. {_load_text(load)} torch "
        f"{torch.__version__}, {datetime.now(UTC):%B %Y}."
    )
    lines = [
        f"# What one model of {size} costs",
        "",
        textwrap.fill(text, 100),
        "",
        "| task | processor (s) | clock (s) | peak (GB) | result, or passes |",
        "|---|---|---|---|---|",
        f"| build and record | {first['record processor']:.1f} | {first['record seconds']:.1f} | "
        f"{first['record peak']:.2f} | |",
    ]
    for name, row in rows.items():
        figures = f"{row['processor']:.1f} | {row['seconds']:.1f} | {row['peak']:.2f}"
        lines.append(f"| {name} | {figures} | {row['note'].replace('|', '/')} |")
    missing = [name for name in TASKS if name not in rows]
    lines += ["", f"Not run here: {', '.join(missing)}."] if missing else []
    for prose in (NOTES, LIMITS):
        lines += ["", textwrap.fill(" ".join(prose.split()), 100)]
    return "\n".join([*lines, ""])


def _load_text(load: float) -> str:
    """What other processes did to the times."""
    cores = os.cpu_count() or 1
    if load <= cores:
        return f"The load was at most {load:.0f} on {cores} cores."
    return (
        f"Other processes ran meanwhile (a load of up to {load:.0f} on {cores} cores), so that times by the "
        "clock can't be compared with each other or with another machine's; processor times can, roughly. A "
        "report whose budget is a time does less under such a load."
    )


def main() -> None:
    """Run what runs/sizes has no figures of, and write the page."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in TASKS:
        file = FIGURES / f"{name}.json"
        if not file.exists():
            line = [sys.executable, "-m", "tests.benchmarks.sizes", name]
            done = subprocess.run(line, capture_output=True, text=True)
            if done.returncode:
                sys.stderr.write(f"{name}: {done.stderr[-500:]}\n")
                continue
            file.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
        rows[name] = json.loads(file.read_text(encoding="utf-8"))
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(measured(sys.argv[1])) + "\n")
    else:
        main()
