"""Which positions count: the order of the sources, every form of a mask, pad tokens, ends."""

import pytest
import torch

import loopscope as ls
from loopscope.core.counted import SpecialTokens, padding_mask, until_end, without_pads
from loopscope.recorder.subset import select_examples

from ..toys.padded_loop import padded, padded_loop, ragged
from ..toys.small_models import hrm_text, x_transformer

PADDING = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]).bool()


def additive(visible):
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)


def of_four_axes(causal, unmasked=False):
    """(batch, 1, query, key): what PADDING lets each query see. `unmasked`: a query that sees
    nothing sees everything, as fused kernels need it."""
    rows = torch.ones(5, 5, dtype=torch.bool).tril() if causal else torch.ones(5, 5, dtype=torch.bool)
    seen = rows & PADDING[:, None, :]
    seen = seen | ~seen.any(-1, keepdim=True) if unmasked else seen
    return seen[:, None]


@pytest.mark.parametrize(
    "mask",
    [
        PADDING,
        PADDING.long(),
        PADDING.float(),
        additive(PADDING),
        of_four_axes(False),
        of_four_axes(True),
        of_four_axes(True, unmasked=True),
        additive(of_four_axes(True)),
        additive(of_four_axes(True, unmasked=True)),
        additive(of_four_axes(True)).double().clamp(min=-1e9),
        of_four_axes(True).expand(3, 2, 5, 5),
        of_four_axes(True)[:, 0],
        {"full_attention": of_four_axes(True)},
    ],
)
def test_padding_is_read_from_masks_of_every_form(mask):
    assert torch.equal(padding_mask(mask, True, (3, 5)), PADDING)


def test_a_window_hides_no_position():
    near = (torch.arange(5)[:, None] - torch.arange(5)).abs() < 2
    mask = (near.tril() & PADDING[:, None, :])[:, None]
    assert torch.equal(padding_mask(mask, True, (3, 5)), PADDING)


def test_pytorchs_padding_masks_are_true_at_padding():
    assert torch.equal(padding_mask(~PADDING, False, (3, 5)), PADDING)


def test_a_mask_of_a_cache_is_of_the_last_positions():
    longer = torch.cat([torch.ones(3, 2, dtype=torch.bool), PADDING], 1)
    assert torch.equal(padding_mask(longer, True, (3, 5)), PADDING)


@pytest.mark.parametrize("mask", [None, 3, torch.ones(5), torch.ones(2, 5), torch.ones(3, 4), "causal"])
def test_what_is_no_mask_of_these_positions_says_nothing(mask):
    assert padding_mask(mask, True, (3, 5)) is None


@pytest.mark.parametrize(
    ("special", "row", "counts"),
    [
        (SpecialTokens(pad=0), [0, 0, 5, 0, 6, 0, 0], [0, 0, 1, 1, 1, 0, 0]),
        (SpecialTokens(pad=0, ends=(2,)), [5, 2, 6, 2, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]),
        (SpecialTokens(pad=2, ends=(2,)), [5, 6, 2, 7, 2, 2, 2], [1, 1, 1, 1, 1, 0, 0]),
        (SpecialTokens(pad=2, ends=(2,)), [2, 2, 5, 6, 7, 8, 2], [0, 0, 1, 1, 1, 1, 1]),
        (SpecialTokens(pad=2, begin=2, ends=(2,)), [2, 2, 5, 6, 2, 2, 2], [0, 1, 1, 1, 1, 0, 0]),
        (SpecialTokens(pad=0), [0] * 7, [0] * 7),
        (SpecialTokens(), [0, 0, 5, 0, 6, 0, 0], [1] * 7),
    ],
)
def test_pad_tokens_at_the_ends_do_not_count_and_those_between_do(special, row, counts):
    assert without_pads(torch.tensor([row]), special).int().tolist() == [counts]


def test_nothing_counts_after_the_end_of_what_was_generated():
    tokens = torch.tensor([[9, 2, 5, 2, 6, 2], [9, 2, 5, 6, 7, 8]])
    assert until_end(tokens, [2, 3], prompt=2).int().tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    assert bool(until_end(tokens, [], prompt=2).all())


def test_the_first_source_that_says_anything_decides():
    model = ls.wrap(hrm_text())
    tokens = torch.tensor([[39, 39, 5, 6, 7]])
    plain = ls.record(model, tokens)
    assert plain.mask.int().tolist() == [[0, 0, 1, 1, 1]] and "pad tokens (39)" in plain.counted.source
    told = ls.record(model, tokens, attention_mask=torch.tensor([[0, 1, 1, 1, 1]]))
    assert told.mask.int().tolist() == [[0, 1, 1, 1, 1]] and "attention_mask" in told.counted.source
    mine = told.with_mask([[True, True, True, False, False]])
    assert mine.mask.int().tolist() == [[1, 1, 1, 0, 0]] and "was passed" in mine.counted.source
    assert told.mask.int().tolist() == [[0, 1, 1, 1, 1]]  # a new run, and the old one as it was
    assert torch.equal(mine.with_mask(None).mask, told.mask)


def test_the_mask_of_x_transformers_is_its_own_argument_and_says_what_counts():
    torch.manual_seed(0)
    model = ls.wrap(x_transformer(looped=False).eval())
    tokens, mask = torch.randint(1, 40, (2, 5)), torch.tensor([[1, 1, 1, 0, 0], [1] * 5]).bool()
    run = ls.record(model, tokens, mask=mask)
    assert torch.equal(run.output, model.module(tokens, mask=mask)) and torch.equal(run.mask, mask)


def test_a_module_wrapped_by_its_body_keeps_its_mask_too():
    module = hrm_text().eval()
    wrapped, mask = ls.wrap(module, body="model.H_module"), torch.tensor([[0, 0, 1, 1, 1]])
    run = ls.record(wrapped, torch.tensor([[3, 4, 5, 6, 7]]), attention_mask=mask)
    assert run.mask.int().tolist() == mask.tolist()


def test_twelve_pads_are_no_trajectories():
    torch.manual_seed(1)
    model = ls.wrap(hrm_text())
    row, mask = torch.randint(1, 30, (1, 6)), (torch.arange(18) >= 12).long()[None]
    run = ls.record(model, torch.cat([torch.zeros(1, 12, dtype=torch.long), row], 1), attention_mask=mask)
    alone = ls.record(model, row)
    assert "Of 6 trajectories" in str(ls.analyses.measure("cycles", run))
    settled = [ls.analyses.measure("convergence", one).state.settled_fraction for one in (run, alone)]
    assert torch.allclose(*settled)
    assert "Of 18 trajectories" in str(ls.analyses.measure("cycles", run, mask=torch.ones(1, 18)))


def test_a_run_keeps_its_mask(tmp_path):
    model = padded_loop()
    tokens = ragged(model.task.batch(6, seed=0).tokens)
    run = ls.record(model, tokens, 4)
    for one in (run, run.with_mask(tokens == 1)):
        loaded = ls.load_run(one.save(tmp_path / "run.safetensors"))
        assert torch.equal(loaded.mask, one.mask) and loaded.counted.source == one.counted.source
        assert torch.equal(ls.resume(model, one, 6).mask, one.mask)
        assert torch.equal(select_examples(one, [4, 1]).mask, one.mask[[4, 1]])
        assert torch.equal(one.with_sites({"state": one.states}).mask, one.mask)
    assert "positions count" in str(run.counted)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (torch.ones(2, 3), r"mask must be a tensor of bools \(batch, position\) = \(6, 6\)"),
        (torch.zeros(6, 6), "leaves no position that counts"),
        (torch.full((6, 6), 2), "must hold True and False"),
        (torch.ones(6, 6) * 1j, "must hold True and False"),
        ("all", r"\(6, 6\), True where a position counts, but got str"),
        (object(), "but got object"),
        ([[True], [True, False]], "but got list"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_by_a_sentence(mask, sentence):
    model = padded_loop()
    run = ls.record(model, model.task.batch(6, seed=0).tokens, 4)
    for call in (run.with_mask, lambda m: ls.analyses.measure("cycles", run, mask=m)):
        with pytest.raises(ls.LoopscopeError, match=sentence):
            call(mask)


def test_a_mask_is_the_runs_own_copy():
    model = padded_loop()
    run = ls.record(model, model.task.batch(6, seed=0).tokens, 4)
    mask = torch.ones(6, 6, dtype=torch.bool)
    kept = run.with_mask(mask)
    mask[:] = False
    assert bool(kept.mask.all())


@pytest.mark.parametrize("name", [n for n in ls.analyses.names() if n != "grokking"])
def test_where_nothing_counts_nothing_is_measured(name):
    model = padded_loop()
    run = ls.record(model, torch.zeros(3, 6, dtype=torch.long), 4)
    with pytest.raises(ls.LoopscopeError):
        ls.analyses.measure(name, run)


def test_an_example_of_padding_alone_is_passed_over():
    model = padded_loop()
    tokens = model.task.batch(6, seed=0).tokens
    run, with_empty = (ls.record(model, one, 6) for one in (tokens, torch.cat([tokens[:1] * 0, tokens])))
    for name, field in (("convergence", "state"), ("geometry", "vectors"), ("cycles", "shares")):
        one, other = (getattr(ls.analyses.measure(name, r), field) for r in (run, with_empty))
        if field == "state":
            one, other = one.settled_fraction.tolist(), other.settled_fraction.tolist()
        assert one == other
    ends = [ls.analyses.measure("path_independence", r, examples=2).alignment for r in (run, with_empty)]
    assert ends[0] == pytest.approx(ends[1])


def test_padding_that_influences_the_rest_is_part_of_the_map_and_it_is_said():
    """Where nothing hides the padding, its states are of the loop."""
    torch.manual_seed(0)
    model = ls.models.build("universal", vocabulary=4, width=16, heads=2).eval()
    tokens = torch.randint(0, 4, (2, 5))
    run = ls.record(model, tokens, 4).with_mask(torch.tensor([[0, 1, 1, 1, 1]] * 2))
    how = ls.analyses.measure("stability", run, examples=1, count=1, exponents_count=1, iterations=10).how
    assert "influence those that do" in how
    assert "of the attention goes to positions that don't count" in str(
        ls.analyses.measure("attention", run, extra=4)
    )


def test_a_history_has_no_positions():
    history = ls.load_history("grokking-modular")
    with pytest.raises(ls.LoopscopeError, match="History has no positions"):
        ls.analyses.measure("grokking", history, mask=torch.ones(2, 2))


def test_an_answer_position_that_does_not_count_is_refused():
    model = padded_loop()
    run = ls.record(model, padded(model.task.batch(6, seed=0).tokens, 0, 2), 4)
    with pytest.raises(ls.LoopscopeError, match="position 7 of example 0 does not"):
        ls.effects(run, "mean", answer_positions=-1)


def test_a_mean_over_one_example_is_refused_where_the_others_are_padding():
    model = padded_loop()
    tokens = padded(model.task.batch(4, seed=0).tokens, 0, 0)
    tokens[1:, -1] = 0
    edit = ls.ablate("core.0.hook_resid_post", how="mean")
    with pytest.raises(ls.LoopscopeError, match="position 5 counts in one alone"):
        ls.record(model, tokens, 4, edits=[edit])
    rest = ls.ablate("core.0.hook_resid_post", how="mean", position=slice(0, 5))
    with pytest.raises(ls.LoopscopeError, match="how is 'zero'"):
        ls.ablate("state", mask=torch.ones(4, 6))
    assert bool(ls.record(model, tokens, 4, edits=[rest]).output.isfinite().all())


@pytest.mark.parametrize(
    ("values", "absent", "sentence"),
    [(torch.tensor([0, 1]), -100, r"of -100"), (torch.tensor([0.5, 1.5]), float("nan"), "of NaN")],
)
def test_labels_that_say_that_there_is_none_are_left_out(values, absent, sentence):
    model = padded_loop()
    run = ls.record(model, model.task.batch(40, seed=0).tokens, 3)
    labels = values[run.tokens % 2]
    given = labels.clone()
    given[:, :2] = absent
    mask = torch.ones_like(run.mask)
    mask[:, :2] = False
    left_out = ls.Probes.fit(run, given, random=False, controls=1)
    masked = ls.Probes.fit(run, labels, mask=mask, random=False, controls=1)
    assert left_out.classes == masked.classes and torch.equal(left_out.score, masked.score)
    assert f"80 labels {sentence}" in str(left_out)


def test_the_passes_of_a_generation_know_the_padding_of_their_prompt():
    torch.manual_seed(1)
    model, tokens = ls.wrap(hrm_text().eval()), torch.randint(1, 30, (2, 6))
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0
    edit = ls.ablate("model.H_module", how="mean", iteration=0, position=slice(3, None))
    options = {"max_new_tokens": 2, "do_sample": False, "attention_mask": mask, "use_cache": False}
    for edits in ([], [edit]):
        out = ls.generate(model, tokens, edits=edits, **options)
        assert out.runs[0].mask.int().tolist() == mask.tolist()
        assert torch.equal(out.runs[1].mask[:, :6], mask.bool())
    with pytest.raises(ls.LoopscopeError, match="position 0 counts in one alone"):
        ls.generate(model, tokens, edits=[ls.ablate("model.H_module", how="mean", iteration=0)], **options)
