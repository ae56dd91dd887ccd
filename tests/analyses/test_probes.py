"""Linear probes on states that encode an answer by construction, or don't."""

import json

import pytest
import torch
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.common import discovery
from loopscope.common.errors import LoopscopeError

from ..toys.table_loop import Planted
from .test_halting import TASK

SIZE, N = 220, 5


def run_of(encoded_from, decoded_from=3, sure=5.0):
    """States that encode the answer from one iteration on, and in the channels of the read-out from
    another on."""
    batch = TASK.batch(SIZE, seed=0)
    generator = torch.Generator().manual_seed(0)
    table = 0.5 * torch.randn(N + 1, SIZE, batch.tokens.shape[1], 6, generator=generator)
    right = torch.nn.functional.one_hot(batch.targets, 3).float()
    table[encoded_from:, ..., 3:] += sure * right
    table[decoded_from:, ..., :3] += sure * right
    model = Planted(table, TASK).eval()
    model.decode = lambda state, context: state[..., :3]
    return ls.record(model, batch.tokens)


def measured(encoded_from, decoded_from=3):
    return ls.analyses.measure("probes", run_of(encoded_from, decoded_from), examples=SIZE)


def test_an_answer_that_the_states_hold_before_it_is_said_is_ahead():
    result = measured(encoded_from=1)
    curve = result.facts["answer"]
    assert result.verdict.name == "ahead" and curve.formed == 1
    assert curve.score[0] < 0.6 and (curve.score[1:] > 0.98).all()
    assert result.model_score[2] < 0.6 and result.model_score[3] > 0.98


def test_an_answer_that_is_said_when_it_is_there_is_alike():
    result = measured(encoded_from=3)
    assert result.verdict.name == "alike" and result.facts["answer"].formed == 3


def test_states_without_an_answer_have_none():
    result = measured(encoded_from=N + 1, decoded_from=N + 1)
    assert result.verdict.name == "absent" and result.facts["answer"].formed is None


def test_the_map_tells_where():
    result = measured(encoded_from=1)
    answered = TASK.batch(2, seed=0).mask[0].nonzero()[:, 0].tolist()
    assert list(result.positions) == answered
    assert (result.probe_map[2] > 0.9).all() and result.probe_map[0].mean() < 0.65
    assert result.model_map.shape == result.probe_map.shape


def test_it_draws_itself_says_its_thresholds_and_becomes_json():
    result = measured(encoded_from=1)
    module = discovery.module("analyses", "probes")
    assert len(module.panels(result)) == 2 and module.headline(result)[0] == "100 %"
    assert all(word in module.headline(result)[1] for word in ("highest baseline", "the model's own answers"))
    assert "formed at 0.9 of the way" in str(result) and "The run's own 220 examples" in str(result)
    assert json.loads(result.to_json())["verdict"]["name"] == "ahead"


def test_a_small_run_is_joined_by_more_examples_of_its_task_and_one_with_edits_is_not():
    model = ls.models.load("ouro-mano")
    tokens = model.task.batch(40, seed=0).tokens
    result = ls.analyses.measure("probes", ls.record(model, tokens), examples=300)
    assert result.examples == 300 and "300 other test examples" in str(result)
    assert "fresh examples" in result.evidence.how, "they aren't those that the page shows"
    assert "the run's own 40 are too few" in str(result) and result.groups_sentence in str(result)
    assert result.groups == 300 or f"{result.groups} of 300 are different" in result.groups_sentence
    edited = ls.record(model, tokens, edits=[ls.skip(1)])
    with pytest.raises(LoopscopeError, match="each class must come in 5 groups|folds need 10 groups"):
        ls.analyses.measure("probes", ls.record(model, tokens[:8], edits=[ls.skip(1)]))
    assert ls.analyses.measure("probes", edited, fact="answer").examples == 40


def test_steps_on_the_way_stand_beside_the_answer_and_what_it_tells_of_them():
    model = ls.models.load("ouro-mano")
    result = ls.analyses.measure(
        "probes", ls.record(model, model.task.batch(300, seed=0).tokens), examples=300
    )
    assert list(result.facts) == ["answer", "left part", "right part"]
    assert (
        result.facts["answer"].baseline.isnan().all() and not result.facts["left part"].baseline.isnan().any()
    )


def test_what_it_can_not_be_asked_gets_a_sentence():
    model = ls.models.build("universal", vocabulary=3, width=16).eval()
    run = ls.record(model, TASK.batch(8, seed=0).tokens, 2)
    assert not discovery.module("analyses", "probes").applies(run)
    with pytest.raises(LoopscopeError, match="probes need a run of examples of a known task"):
        ls.analyses.measure("probes", run)
    model.task = TASK
    with pytest.raises(LoopscopeError, match="prefix-parity has no fact called 'carry'"):
        ls.analyses.measure("probes", run, fact="carry")


# The command


def probe(*arguments):
    return CliRunner().invoke(app, ["probe", *map(str, arguments)])


def test_the_command_probes_a_fact_and_saves_what_it_found(tmp_path):
    outcome = probe("ouro-mano", "--fact", "right part", "--examples", 300, "-o", tmp_path / "p.safetensors")
    assert outcome.exit_code == 0 and "Linear probes for 5 classes" in outcome.output
    assert str(ls.load_probes(tmp_path / "p.safetensors")) in outcome.output


def test_the_command_reads_labels_from_a_file_and_prints_json(tmp_path):
    from safetensors.torch import save_file

    run = ls.record(ls.models.load("ouro-mano"), ls.models.load("ouro-mano").task.batch(120, seed=0).tokens)
    run.save(tmp_path / "run.safetensors")
    save_file(
        {"labels": torch.arange(120) % 2, "mask": torch.arange(120) < 100}, tmp_path / "labels.safetensors"
    )
    outcome = probe(
        tmp_path / "run.safetensors",
        "--labels",
        tmp_path / "labels.safetensors",
        "--positions",
        "-1",
        "--json",
    )
    result = json.loads(outcome.output)
    assert result["rows"][0][0] == [100] and result["positions"] == [11]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ouro-mano", "--fact", "answer", "--labels", "x"), "were both given"),
        (("ouro-mano", "--fact", "anwser"), "Did you mean 'answer'"),
        (
            ("ouro-mano", "--labels", "missing.safetensors"),
            "missing.safetensors must be a file, but there is none",
        ),
        (("ouro-mano", "--site", "core.7"), "no site 'core.7'"),
    ],
)
def test_what_the_command_can_not_do_is_a_sentence(arguments, sentence):
    outcome = probe(*arguments)
    assert outcome.exit_code == 2 and sentence in outcome.output.replace("\n", " ")
