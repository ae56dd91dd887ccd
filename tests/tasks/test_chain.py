"""Chains: each result follows from the one before, and the last is the answer."""

import pytest
import torch

from loopscope import tasks
from loopscope.common.errors import LoopscopeError

CHAINED = [
    tasks.hops(nodes=7, hops=5),
    tasks.hops(nodes=5, hops=3, pairs=True),
    tasks.modular_chain(modulus=7, operations=4),
    tasks.modular_chain(modulus=8, operations=6),
    tasks.roots(nodes=9, depth=5),
    tasks.composition(entities=12, relations=5),
]


def every(task):
    return pytest.mark.parametrize("task", task, ids=lambda task: f"{task.name}-{len(task.symbols)}")


@every(CHAINED)
def test_the_last_result_is_the_answer_and_stays(task):
    batch = task.batch(200, seed=1)
    chain, length = task.results(batch.tokens), batch.difficulty.long()
    assert torch.equal(chain.mask.sum(0), length[:, None] * batch.mask)
    for number in range(1, len(chain) + 3):
        done = number >= length
        assert torch.equal(chain.result(number)[done], batch.targets[done])
        assert torch.equal(chain.result(number)[~batch.mask], batch.tokens[~batch.mask])


@every([task for task in CHAINED if task.name in ("hops", "modular-chain")])
def test_a_shorter_example_has_the_same_results(task):
    """The answer of an example that ends after j results is result j of the one that goes on."""
    batch = task.batch(100, seed=2, exactly=task.options[task.difficulty_option])
    chain = task.results(batch.tokens)
    for j in range(1, len(chain) + 1):
        shorter = batch.tokens.clone()
        if task.name == "hops":
            shorter[:, -1] = task.nodes + j - 1
        else:
            shorter[:, 1 + j : -1] = task.symbols.index(".")
        assert torch.equal(task.solve(shorter)[batch.mask], chain.result(j)[batch.mask])


def test_results_of_modular_chains_agree_with_python():
    task = tasks.modular_chain(modulus=10, operations=5)
    assert [symbol for symbol in task.symbols if symbol[0] == "*"] == ["*3", "*7", "*9"], (
        "those with inverses"
    )
    batch = task.batch(200, seed=3)
    assert isinstance(batch, tasks.ModularChainBatch)
    for text, chain, count in zip(
        task.render(batch.tokens), task.results(batch.tokens).values[..., -1].T, batch.difficulty, strict=True
    ):
        start, *operations = text.replace("=", "").split()
        value, results = int(start), []
        for operation in operations:
            by = int(operation[1:]) if operation != "." else 0
            value = {"+": value + by, "*": value * by, ".": value}[operation[0]] % 10
            results.append(value)
        assert chain.tolist() == results
        assert sum(operation != "." for operation in operations) == count


def test_a_chain_written_by_hand():
    task = tasks.modular_chain(modulus=7, operations=3)
    tokens = torch.tensor([[task.symbols.index(symbol) for symbol in ("5", "+3", "*2", ".", "=")]])
    assert task.render(task.solve(tokens)) == ["5 +3 *2 . 2"]
    chain = task.results(tokens)
    assert chain.values[:, 0, -1].tolist() == [1, 2] and chain.mask[:, 0, -1].tolist() == [True, True]


def test_fillers_are_no_part_of_an_example():
    task = tasks.modular_chain(operations=3)
    tokens = task.batch(100, seed=0).tokens
    filler = torch.full((100, 2), task.symbols.index("."))
    longer = torch.cat([tokens[:, :-1], filler, tokens[:, -1:]], dim=1)
    assert torch.equal(task.solve(longer)[:, -1], task.solve(tokens)[:, -1])
    assert task.is_test(longer).all()
    both = torch.cat([tokens, task.batch(100, seed=0, split="train").tokens])
    assert torch.equal(task.canonical_form(both[:100]), task.canonical_form(longer))


def test_results_are_even_and_no_operation_alone_tells_the_next():
    task = tasks.modular_chain(modulus=5, operations=4)
    batch = task.batch(6000, seed=0, exactly=4)
    for k in range(1, 5):
        assert (batch.running[:, k].bincount(minlength=5) - 1200).abs().max() < 150
        for operation in batch.tokens[:, k].unique():
            rows = batch.tokens[:, k] == operation
            before, after = batch.running[rows, k - 1], batch.running[rows, k]
            assert len(torch.stack([before, after]).unique(dim=1).T) == 5, "each value has its own successor"


def test_a_task_without_an_order_of_results_has_no_chain():
    task = tasks.prefix_parity(length=5)
    assert task.results(task.batch(2, seed=0).tokens) is None


def test_wrong_chains_and_tokens_are_refused():
    task = tasks.modular_chain(modulus=5, operations=3)
    good = task.batch(1, seed=0, exactly=2).tokens
    end, filler = task.vocabulary - 1, task.vocabulary - 2
    for place, token in ((0, filler), (0, 5), (1, filler), (1, 0), (2, end), (4, filler)):
        bad = good.clone()
        bad[0, place] = token
        with pytest.raises(LoopscopeError, match=r"needs a number \(tokens 0..4\), 1 to 32 operations"):
            task.solve(bad)
    with pytest.raises(LoopscopeError, match="exactly must be at most its operations, 3, but is 4"):
        tasks.modular_chain(operations=3, exactly=4)
    with pytest.raises(LoopscopeError, match="operations must be at most 32, but are 33"):
        tasks.modular_chain(operations=33)
    with pytest.raises(LoopscopeError, match="modulus must be a whole number, 3 or more"):
        tasks.modular_chain(modulus=2)
    chain = task.results(good)
    with pytest.raises(LoopscopeError, match="count from 1, but number is 0"):
        chain.result(0)
    with pytest.raises(LoopscopeError, match=r"one shape \(result, batch, position\)"):
        tasks.Chain(chain.values, chain.mask[0])
