"""The section on a training says the numbers of its last look, with intervals of drawn examples."""

import pytest

import loopscope as ls
from loopscope.common.evidence import share_interval
from loopscope.reports.fates import reconcile
from loopscope.reports.section import GROUPS, Section
from loopscope.reports.summary import summary
from loopscope.reports.training_curves import section


@pytest.mark.parametrize(("entry", "is_sample"), [("grokking-hops", True), ("grokking-modular", False)])
def test_its_numbers_are_those_of_the_last_look(entry, is_sample):
    history = ls.load_history(entry)
    made = section(history)
    assert ("95 % interval" in made.text) is is_sample
    if is_sample:
        last = float(history.accuracy("systematic")[-1, -1])
        low, high = (100 * end for end in share_interval(round(last * 1000), 1000))
        assert f"{100 * last:.1f} % (95 % interval {low:.1f} to {high:.1f} %) on systematic" in made.text
    titles = [panel.title for panel in made.panels]
    assert titles == [f"{what} during training" for what in ("Accuracy", "Loss", "Norm of the weights")]
    assert all(len(panel.figure.data[0].y) == len(history) for panel in made.panels)


def test_a_training_is_what_its_page_speaks_of_first():
    made = section(ls.load_history("grokking-modular"))
    model = Section("model", "Model", 1, topic="model", claim="The model answers.", group="answers")
    page = summary({}, [model, made], reconcile({}))
    assert list(page.sentences)[:2] == [made.text, "The model answers."]
    assert page.tiles[0].caption == "accuracy on the set test after 5,000 optimiser steps"
    assert list(GROUPS)[0] == "training"
