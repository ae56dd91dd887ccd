"""Recording, beside hooks by hand, nnsight, torchlens and TransformerLens.

A plain looped net is recorded: the states and the outputs of its two blocks, in 32 iterations.
Hooks that keep references have wrong values as soon as code works in place; those that keep clones
haven't. torchlens and nnsight keep references. None but loopscope has states before the loop, an
axis of iterations, or checks that the values are what the model computed.
"""

import pytest
import torch

import loopscope as ls

from ..toys.plain_loop import plain_loop

ITERATIONS, SITES = 32, ("core", "core.0", "core.1")


def by_hooks(model, tokens, keep):
    values = {name: [] for name in SITES}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: values[name].append(keep(output))
        )
        for name in SITES
    ]
    with torch.no_grad():
        model(tokens)
    for handle in handles:
        handle.remove()
    assert all(len(of_site) == ITERATIONS for of_site in values.values())


def by_nnsight(model, tokens):
    nnsight = pytest.importorskip("nnsight")
    traced = nnsight.NNsight(model)

    def record():
        with torch.no_grad(), traced.trace(tokens) as tracer:
            first = list().save()  # noqa: C408 (nnsight saves what it sees being made)
            second = list().save()  # noqa: C408
            both = list().save()  # noqa: C408
            for _ in tracer.iter[:ITERATIONS]:
                first.append(traced.core[0].output)
                second.append(traced.core[1].output)
                both.append(traced.core.output)
        assert len(first) == len(second) == len(both) == ITERATIONS

    return record


def by_torchlens(model, tokens):
    torchlens = pytest.importorskip("torchlens")
    fastlog = pytest.importorskip("torchlens.fastlog")

    sites = torchlens.module("core") | torchlens.module("core.0") | torchlens.module("core.1")

    def record():
        with torch.no_grad():
            recording = fastlog.record(model, tokens, save=sites)
        assert len(recording) == 2 * ITERATIONS  # the last block's output is that of the body

    return record


@pytest.mark.parametrize("width", [128, 512])
def test_states_and_two_blocks_of_a_plain_net(compare, width):
    model, tokens = plain_loop(width)
    wrapped = ls.wrap(model, body="core", count="turns")

    def bare():
        with torch.no_grad():
            model(tokens)

    def ours():
        run = ls.record(wrapped, tokens, sites=["core.0", "core.1"])
        assert run.iterations == ITERATIONS

    compare(
        f"states and two blocks of a plain net of width {width}",
        {
            "bare forward": bare,
            "hooks by hand, references": lambda: by_hooks(model, tokens, lambda x: x),
            "hooks by hand, clones": lambda: by_hooks(model, tokens, torch.clone),
            "loopscope": ours,
            "nnsight": by_nnsight(model, tokens),
            "torchlens": by_torchlens(model, tokens),
        },
        "goal at most nnsight's, and 1.05 of hooks by hand",
        rounds=15,
    )


def test_all_hook_points_of_a_zoo_model(compare):
    """TransformerLens' run_with_cache keeps the last iteration of each hook alone."""
    from transformer_lens import HookedRootModule

    torch.manual_seed(0)
    model = ls.models.build(
        "universal", vocabulary=16, width=128, heads=4, injection="add", norm="stream"
    ).eval()
    tokens = torch.randint(0, 16, (8, 32))
    options = {"iterations": ITERATIONS}
    names = [name for name, _ in model.named_modules() if name.startswith("core") and "hook_" in name]

    def bare():
        with torch.no_grad():
            model(tokens, **options)

    def overwriting():
        with torch.no_grad():
            HookedRootModule.run_with_cache(
                model, tokens, names_filter=names, return_cache_object=False, **options
            )

    compare(
        f"{len(names)} hook points of the zoo's Universal Transformer, width 128",
        {
            "bare forward": bare,
            "loopscope, all iterations": lambda: ls.record(model, tokens, ITERATIONS, sites=names),
            "TransformerLens, the last iteration": overwriting,
        },
        "no goal",
    )
