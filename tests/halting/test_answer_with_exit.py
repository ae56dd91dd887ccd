"""answer: rows that leave early have the answers of the full pass, and only the remaining rows are
computed."""

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.halting import exit_rules, shrinking_batch
from loopscope.halting.observation import answers_after

from ..toys.table_loop import Planted

N = 10
COMPACT = shrinking_batch.COMPACT


def built(name, **options):
    return ls.models.build(
        name, **({"vocabulary": 3, "width": 16, "heads": 2, "seed": 1} | options)
    ).eval()  # fmt: skip


def sharp(model, times=8.0):
    """The same model with a gate that differs between rows."""
    with torch.no_grad():
        model.halting_unit.weight.mul_(times)
    return model


HALTING = {
    "act": lambda: sharp(built("universal", halting="accumulated", halting_bias=-1.0, iterations=N)),
    "act with a coda": lambda: sharp(
        built("universal", halting="interpolated", halting_bias=-1.0, layers=(1, 1, 1), iterations=N)
    ),
    "ponder": lambda: sharp(built("ponder", threshold=0.8, iterations=N)),
    "ouro": lambda: sharp(built("ouro", threshold=0.8, iterations=N)),
    "memory": lambda: sharp(built("memory", length=7, memory=2, iterations=N, halting_bias=0.0)),
}
LOOPS = HALTING | {
    "plain": lambda: built("universal", injection="add", norm="stream", position="rotary", step_code="none"),
    "huginn": lambda: built("huginn", iterations=N),
    "hrm": lambda: built("hrm", length=7, segments=5),
}


@pytest.fixture
def tokens():
    return torch.randint(0, 3, (24, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", HALTING.values(), ids=HALTING)
def test_the_models_own_answers_come_out_with_less_work(make, tokens):
    model = make()
    run, result = ls.record(model, tokens), ls.answer(model, tokens)
    assert torch.allclose(result.logits, run.output, atol=1e-5)
    assert torch.equal(result.halted, run.halting.halted)
    assert torch.equal(result.exit_depth[result.halted], run.halting.iteration[result.halted] + 1)
    slowest = torch.where(result.halted.all(1), (run.halting.iteration + 1).amax(1), N)
    assert torch.equal(result.iterations_used, slowest)
    assert result.work <= 24 * 7 * int(result.iterations_used.max())
    left = (result.iterations_used < result.iterations_used.max()).sum()
    if left >= COMPACT * len(tokens):
        assert result.work < 24 * 7 * int(result.iterations_used.max()) and result.saved > 0


def test_rows_differ_so_that_the_law_above_says_something(tokens):
    assert any(len(ls.answer(make(), tokens).iterations_used.unique()) > 1 for make in HALTING.values())


@pytest.mark.parametrize("level", ["position", "example"])
@pytest.mark.parametrize("rule", ["kl", "latent", "argmax", "kl_entropy", "min_p"])
@pytest.mark.parametrize("make", LOOPS.values(), ids=LOOPS)
def test_a_rule_stops_the_loop_where_it_would_have_stopped_the_run(make, rule, level, tokens):
    model, threshold = make(), {"kl": 1e-3, "latent": 0.3, "argmax": 3}.get(rule)
    run = ls.record(model, tokens, seed=5)
    result = ls.answer(model, tokens, run.iterations, rule=rule, threshold=threshold, level=level, seed=5)
    halting = exit_rules.rule_halting(run, rule, threshold, level)
    assert torch.equal(result.halted, halting.halted)
    assert torch.equal(result.exit_depth, halting.iteration + 1)
    with torch.no_grad():
        answers = torch.stack([answers_after(run, k) for k in range(1, run.iterations + 1)])
    index = halting.iteration[None, :, :, None].expand(1, *answers.shape[1:])
    assert torch.allclose(result.logits, answers.gather(0, index)[0], atol=1e-4)


def test_positions_at_the_end_leave_a_causal_loop_once_nobody_needs_them(tokens):
    model = built(
        "universal", injection="add", norm="stream", position="rotary", step_code="none", iterations=N
    )
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[:, :3] = True
    whole = ls.answer(model, tokens, rule="argmax", threshold=99)
    part = ls.answer(model, tokens, rule="argmax", threshold=99, answer_positions=mask)
    assert part.work == 24 * 3 * N < whole.work == 24 * 7 * N
    assert torch.allclose(part.logits[:, :3], whole.logits[:, :3], atol=1e-5)
    reader = built("ponder", threshold=1.0, iterations=N)
    assert ls.answer(reader, tokens, rule="argmax", threshold=99, answer_positions=mask).work == 24 * 7 * N


def test_a_q_head_lets_whole_rows_leave_at_the_end_of_a_segment(tokens):
    model = built("hrm", length=7, segments=5)
    with torch.no_grad():
        model.q_head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.q_head.linear.bias.zero_()
    run, result = ls.record(model, tokens), ls.answer(model, tokens)
    assert (
        set(result.iterations_used.tolist()) <= {2, 4, 6, 8, 10} and len(result.iterations_used.unique()) > 1
    )
    assert torch.equal(result.iterations_used, run.halting.iteration[:, 0] + 1)
    for row, k in enumerate(result.iterations_used.tolist()):
        assert torch.allclose(result.logits[row], run.logits[k][row].detach(), atol=1e-5)


def test_a_lower_threshold_of_the_gate_stops_earlier(tokens):
    model = sharp(built("ouro", threshold=1.0, iterations=N))
    used = [
        ls.answer(model, tokens, rule="model", threshold=t).iterations_used.float().mean()
        for t in (0.3, 0.6, 0.9)
    ]
    assert used[0] < used[1] < used[2]


def test_no_iterations_is_the_answer_before_the_loop(tokens):
    model = built("universal")
    result = ls.answer(model, tokens, 0, rule="kl")
    assert torch.equal(result.logits, ls.record(model, tokens, 0).output)
    assert not result.halted.any() and result.work == 0


def test_a_wrapped_model_of_others_answers_early_too():
    from ..toys.small_models import x_transformer

    torch.manual_seed(0)
    model = ls.wrap(x_transformer(looped=True).eval())
    tokens = torch.randint(0, 40, (6, 5))
    run, result = ls.record(model, tokens), ls.answer(model, tokens, rule="model", threshold=0.5)
    halting = exit_rules.rule_halting(run, "model", 0.5)
    assert torch.equal(result.exit_depth, halting.iteration + 1)


def test_texts_are_answered_as_each_alone():
    from ..toys.small_models import albert
    from ..toys.text_tokenizers import words_tokenizer

    torch.manual_seed(0)
    model, tokenizer = ls.wrap(albert(vocab_size=320).eval()), words_tokenizer()
    texts = ["the loop", "once the loop has come to rest"]
    result = ls.answer(model, texts, rule="argmax", threshold=2, tokenizer=tokenizer)
    padded = tokenizer(texts, padding=True, return_tensors="pt")
    for row, text in enumerate(texts):
        alone = ls.answer(model, text, rule="argmax", threshold=2, tokenizer=tokenizer)
        n = int(padded["attention_mask"][row].sum())
        assert torch.allclose(result.logits[row, :n], alone.logits[0], atol=1e-5)
        assert torch.equal(result.exit_depth[row, :n], alone.exit_depth[0])
    assert torch.equal(ls.answer(model, padded, rule="argmax", threshold=2).logits, result.logits)


def test_what_cannot_answer_early_says_so(tokens):
    model = built("universal")
    with pytest.raises(LoopscopeError, match="threshold=0.1 needs the rule that it belongs to"):
        ls.answer(model, tokens, threshold=0.1)
    with pytest.raises(LoopscopeError, match=r"in training mode\. Call model\.eval\(\) first"):
        ls.answer(model.train(), tokens)
    with pytest.raises(
        LoopscopeError, match="needs a model with encode, initial, step and decode, but got Linear"
    ):
        ls.answer(torch.nn.Linear(2, 2), tokens)
    with pytest.raises(LoopscopeError, match="takes tokens alone, but .'attention_mask'. were passed"):
        ls.answer(model.eval(), tokens, attention_mask=torch.ones_like(tokens))
    with pytest.raises(LoopscopeError, match="a model reads tokens, but got text: 'words'"):
        ls.answer(Planted(torch.zeros(2, 1, 1, 2)).eval(), "words")
