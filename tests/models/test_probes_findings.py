"""What probes find in trained entries of the zoo, and that it isn't there untrained."""

import pytest
import torch

import loopscope as ls
from loopscope.probing.fact_curve import probe_fact
from loopscope.recorder.untrained import untrained_run

pytestmark = pytest.mark.zoo


def test_in_universal_prefix_parity_the_front_of_decodable_positions_moves_with_the_iterations():
    model = ls.models.load("universal-prefix-parity")
    batch = model.task.batch(300, seed=7)
    run = ls.record(model, batch.tokens)
    places = list(range(1, 17, 3))
    probes = ls.Probes.fit(run, "answer", positions=places, random=False)
    own = torch.stack(
        [(run.logits[k].argmax(-1) == batch.targets).double().mean(0)[places] for k in range(25)]
    )
    score = probes.score[0]
    front, answers = ((one >= 0.9).int().argmax(0) for one in (score, own))
    assert front.tolist() == sorted(front.tolist()) and int(front[-1]) >= 9, "later positions later"
    assert (front.diff() >= 1).all() and (front.diff() <= 5).all(), (
        "one to five iterations for three positions"
    )
    for i, k in enumerate(front.tolist()):
        assert (score[k:, i] >= 0.88).all(), "what has been read off stays"
        if k > 5:
            early = score[: k - 5, i]
            assert (probes.low[0, : k - 5, i] < 0.5).all() and early.max() < 0.65, "chance well before"
    assert (front - answers).abs().max() <= 1, "the probe and the model's own read-out see the same front"


def test_the_parity_of_many_bits_is_in_no_untrained_state():
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(300, seed=7).tokens)
    probes = ls.Probes.fit(run, "answer", positions=[8, 16], iterations=[24])
    assert (probes.random < 0.65).all() and probes.learned.all()


def read(entry, examples, *facts):
    model = ls.models.load(entry)
    run = ls.record(model, model.task.batch(examples, seed=5).tokens, 4, seed=0)
    random = untrained_run(run, 0, ["state"])
    options = {"site": "state", "iterations": range(5), "control": "shuffled", "seed": 0, "most": 10_000}
    return [probe_fact(run, model.task, name, random=random, **options)[0] for name in (*facts, "answer")]


def test_in_ouro_mano_a_part_of_the_expression_is_decodable_with_the_answer_and_fades_after_it():
    part, answer = read("ouro-mano", 4000, "right part")
    assert {1, 2} <= set(part.learned) and 0 not in part.learned
    assert part.score[1] - part.baseline[1] > 0.04, "more than the answer tells of it"
    assert part.score.max() < 0.45, "and far from surely"
    assert part.score[4] < part.score[2], "it fades"
    # it is no step before the answer: this is as far as it gets by then
    assert answer.score[1] - answer.floor[1] > 0.7 * 0.2 and 1 in answer.learned


def test_in_huginn_hops_the_first_node_on_the_way_is_decodable_and_the_second_is_not():
    first, second, answer = read("huginn-hops", 4000, "hop 1", "hop 2")
    assert set(first.learned) >= {2, 3, 4} and (first.score[2:] > first.baseline[2:] + 0.03).all()
    assert not second.learned and (second.score < second.baseline).all(), (
        "the answer and the start tell more of it"
    )
    assert answer.score[4] < 0.45, "its answer is hardly in the state linearly: the coda works it out"
