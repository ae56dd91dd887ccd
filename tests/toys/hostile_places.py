"""Pages whose every string that can come from a user is a distinct attempt to be HTML, script, a
link or a template; and the same pages of plain words, to compare them with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

import loopscope as ls
from loopscope import models, tasks
from loopscope.common import discovery
from loopscope.core.counted import Counted
from loopscope.patching.figures import effect_map
from loopscope.plots import style
from loopscope.plots.panels import Frame, Panel
from loopscope.probing.figures import curves, score_map
from loopscope.reports.page import page
from loopscope.reports.section import Section, Summary, Table, Tile
from loopscope.sweeps import Sweep, TrialResult
from loopscope.sweeps.grid import Axis, Grid, Trial
from loopscope.tasks.fact import Fact
from loopscope.training import AdamW, Fixed, Recipe, train
from loopscope.training.history import History
from loopscope.training.history_schedule import Schedule

PLACES = (
    "entry", "architecture", "task", "zero", "one", "start", "unit", "fact", "description", "weights",
    "keep", "dtype", "device", "edit", "version name", "version", "configuration name",
    "configuration", "counted", "body", "part", "wrapped class", "sweep", "toml", "axis", "first value",
    "second value", "second axis", "third axis", "option", "error", "folder", "method", "field",
    "milestone", "title", "quantity", "column", "more", "step line", "metric", "headline",
    "cell", "panel", "menu", "frame", "section",
)  # fmt: skip

Word = Callable[[str], str]
"""The string that stands at a place."""


def plain(place: str) -> str:
    """A harmless word."""
    return f"p{101 + PLACES.index(place)}p"


def hostile(place: str) -> str:
    """A string that tries everything, with its own number."""
    n = 101 + PLACES.index(place)
    return (
        f"p{n}p<b>b<br>{{{{913*977}}}}%{{x}}&lt;&#60;<img src=x onerror=alert({n})><svg onload=alert({n})>"
        f"<a href='javascript:alert({n})'><script>alert({n})</script><sup>\"'$x$"
    ).replace("/", "∕" if place in ("folder", "sweep") else "/")


def _task(word: Word) -> tasks.Task:
    @dataclass(frozen=True)
    class Words(tasks.PrefixParity):
        name = word("task")
        symbols = (word("zero"), word("one"), word("start"))
        difficulty_unit = word("unit")

        def task_facts(self, batch):
            third = batch.targets[:, 3:4].expand_as(batch.targets)
            values = Fact(third, batch.mask, word("description"), is_intermediate=True)
            return {word("fact"): values}

    return Words(length=8)


def run(word: Word, **options: Any) -> ls.Run:
    """A recording of a model of which all strings are these words."""
    torch.manual_seed(0)
    model = models.build(
        "universal", width=16, vocabulary=3, iterations=6, injection="add", norm="stream",
        **options,
    ).eval()  # fmt: skip
    model.__class__ = type(word("architecture"), (type(model),), {})
    model.name, model.task = word("entry"), _task(word)
    result = ls.record(model, model.task.batch(40, seed=0).tokens, 8)
    return result.with_counted(Counted(result.mask, word("counted")))


def _trained_run(word: Word) -> ls.Run:
    """Of a trained model, whose answers differ between examples."""
    model = models.load("universal-prefix-parity")
    model.task = _task(word)
    return ls.record(model, model.task.batch(6, seed=0).tokens, 6)


def _run_of_roles(word: Word) -> ls.Run:
    """Of a model that has two states."""
    model = models.build("trm", width=8, heads=2, vocabulary=5, cycles=3, length=16).eval()
    model.name, model.task = word("entry"), tasks.sudoku(size=4, fewest=4)
    return ls.record(model, model.task.batch(4, seed=0).tokens)


def wrapped_run(word: Word) -> ls.Run:
    """A recording of a module whose class and parts have these names, from a file whose header has
    these words."""

    def forward(self, x):
        for _ in range(14):
            x = getattr(self, word("body"))(x)
        return x

    torch.manual_seed(0)
    body = nn.Sequential()
    body.add_module(word("part"), nn.Linear(6, 6))
    module = type(word("wrapped class"), (nn.Module,), {"forward": forward})()
    module.add_module(word("body"), body)
    site = f"{word('body')}.{word('part')}"
    x = torch.randn(20, 3, 6, generator=torch.Generator().manual_seed(0))
    edit = ls.ablate(site, iteration=2)
    result = ls.record(ls.wrap(module, body=word("body")), x, sites=[site], edits=[edit])
    result.origin.update(
        {name: word(name) for name in ("weights", "keep", "dtype", "device")}
        | {
            "edits": [*result.origin["edits"], word("edit")],
            "versions": {word("version name"): word("version")},
        }
        | {"config": {word("configuration name"): word("configuration")}}
    )
    with TemporaryDirectory() as folder:  # without its model, which these words don't fit
        return ls.load_run(result.save(Path(folder) / "run.safetensors"))


def sweep_page(word: Word) -> str:
    """The page of a sweep that was never run: its trainings have ended in every way there is."""
    values = (word("first value"), word("second value"))
    axes = (
        Axis((f"config.{word('axis')}",), values),
        Axis((f"config.{word('second axis')}",), values),
        Axis((f"options.{word('third axis')}",), values),
    )
    base = Recipe("universal", "prefix-parity", 8, Fixed(2), config={word("option"): word("option")})
    places = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    trials = tuple(Trial(replace(base, seed=s), at, f"trial-{s}") for s, at in enumerate(places))
    ends = [
        TrialResult("finished", score=0.5, phase="generalised", delay=100.0, steps=900),
        TrialResult("finished", score=0.5, phase="memorised", delay_bound=900.0, steps=900),
        TrialResult("failed", word("error")),
    ]
    grid = Grid(word("sweep"), word("toml"), axes, trials, 1, 1)
    results = tuple(ends[i % len(ends)] for i in range(len(trials)))
    return Sweep(grid, Path(word("folder")), results).page().html


def figures_page(word: Word, folder: Path) -> str:
    """Figures whose strings come from elsewhere than a run: histories, lenses, rules, plots made by
    hand, probes of a site."""
    recorded, wrapped = run(word), wrapped_run(word)
    site = wrapped.names[-1]
    probes = ls.Probes.fit(
        wrapped, wrapped.tokens[:, 0, 0] > 0, sites=[site], iterations=[1, 2], random=False
    )
    named = {word("more"): torch.zeros(len(probes.iterations))}
    table = Table([word("column")], [[word("cell")]])
    cells = torch.rand(3, 2)
    by_hand = effect_map(
        cells, [0, 1, 2], [word("column"), "b"], word("title"), x=word("metric"), y="y",
        quantity=word("quantity"),
    )  # fmt: skip
    over_steps = style.over_steps(word("title"), word("quantity"))
    style.step_line(over_steps, [1, 2], cells[:2, 0], word("step line"), colour=style.BLUE, hover="%{y}")
    frames = [Frame(word("frame"), {}), Frame("other", {})]
    panels = [
        Panel(word("panel"), by_hand, word("title"), word("title"), frames, menu_label=word("menu")),
        Panel("Steps", over_steps, "", ""),
        Panel("Curves", curves(probes, **named), "", ""),
        Panel("Map", score_map(probes), "", ""),
        *_panels("causes", _trained_run(word)),
        *_panels("roles", _run_of_roles(word)),
        *_panels("convergence", wrapped, {"sites": [site]}),
        *_panels("lens", recorded),
        *_panels("geometry", recorded, fields=lambda one: replace(one, name=word("field"))),
        *_panels(
            "policy",
            recorded,
            methods=lambda one: one if one.name == "depth" else replace(one, name=word("method")),
        ),
        *_panels(
            "grokking",
            _history(folder),
            milestones=lambda one: replace(one, event=word("milestone")),
        ),
    ]
    section = Section(
        "all", word("section"), 0, panels, word("title"), word("title"),
        [Tile(word("headline"), word("headline"))], table, evidence=word("section"), numbers=table,
    )  # fmt: skip
    summary = Summary([word("title")], section.tiles, table, [word("title")])
    return page(
        title=word("title"), subtitle=word("title"), summary=summary, card=None, sections=[section],
        details=[(word("metric"), word("quantity"))], command=word("toml"), date="today",
    )  # fmt: skip


def _panels(name: str, measured: Any, options: dict[str, Any] | None = None, **changes: Any) -> list[Panel]:
    """An analysis' panels, with other strings in its result or in each item of a part of it."""
    result = ls.analyses.measure(name, measured, **(options or {}))
    for part, change in changes.items():
        if callable(change):
            change = type(getattr(result, part))(map(change, getattr(result, part)))
        result = replace(result, **{part: change})
    return discovery.module("analyses", name).panels(result)


def _history(folder: Path) -> History:
    recipe = Recipe(
        "nanda", "modular-addition", 120, Fixed(1), batch=None, options={"modulus": 7},
        config={"vocabulary": 8, "width": 16, "heads": 2, "iterations": 1},
        optimiser=AdamW(lr=0.01, warmup=4), history=Schedule(finest=4, coarsest=10),
    )  # fmt: skip
    train(recipe, folder, progress=False)
    return ls.load_history(folder)
