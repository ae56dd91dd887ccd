"""Loop alignment: the loss of each iteration's read-out against a result of the chain."""

import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.training import AdamW, Aligned, Fixed, Full, Last, Recipe
from loopscope.training.supervision import StepInputs

from ..toys.planted_chain import AT_ONCE, IN_ORDER, SWAPPED, PlantedChain

TASK = ls.tasks.modular_chain(modulus=5, operations=5)
BATCH = TASK.batch(32, seed=0)


def inputs(model, iterations=5, gradient=None, task=TASK, batch=BATCH):
    labels = batch.tokens, batch.targets, batch.mask
    return StepInputs(model, task, *labels, iterations, gradient or Full(), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("order", [IN_ORDER, SWAPPED, AT_ONCE])
def test_a_loop_that_shows_the_results_in_an_order_has_no_loss_in_it_and_a_loss_in_any_other(order):
    model = PlantedChain(TASK, order)
    for other in (IN_ORDER, SWAPPED, AT_ONCE):
        state = model.initial(model.encode(BATCH.tokens)).requires_grad_()
        model.initial = lambda context, state=state: state
        outputs = Aligned(other)(inputs(model))
        if other == order:
            assert outputs.loss < 1e-6
        else:
            assert outputs.loss > 1
        assert torch.equal(outputs.logits[:, -1].argmax(-1), BATCH.targets[:, -1])


def test_the_loss_is_the_mean_over_iterations_and_answers():
    model = ls.models.build("universal", vocabulary=TASK.vocabulary, width=8, heads=2, iterations=4)
    outputs = Aligned((2, 1, 3))(inputs(model, iterations=4))
    context = model.encode(BATCH.tokens)
    state, losses = model.initial(context), []
    for t, number in enumerate((2, 1, 3, 3)):  # the last number of the order stays
        state = model.step(state, context, t)
        log_p = model.decode(state, context)[:, -1].log_softmax(-1)
        running = TASK.running(BATCH.tokens)[:, number]
        losses.append(-log_p.gather(1, running[:, None]).mean())
    torch.testing.assert_close(outputs.loss, torch.stack(losses).mean())
    cut = Aligned((2, 1, 3))(inputs(model, iterations=4, gradient=Last(2)))
    torch.testing.assert_close(cut.loss, torch.stack(losses[2:]).mean())
    assert [Aligned().result_after(k) for k in (1, 2, 9)] == [1, 2, 9]


def test_a_recipe_keeps_the_order():
    recipe = Recipe("universal", "hops", 3, Fixed(2), supervision=Aligned((2, 1)), optimiser=AdamW())
    assert Recipe.from_json(recipe.to_json()) == recipe
    plain = Recipe("universal", "hops", 3, Fixed(2), supervision=Aligned())
    assert Recipe.from_json(plain.to_json()) == plain != recipe


def test_what_it_cannot_do_is_said():
    task = ls.tasks.prefix_parity(length=6)
    model = ls.models.build("universal", vocabulary=3, width=8, heads=2, iterations=4)
    with pytest.raises(
        LoopscopeError, match="needs a task with a chain of results, but prefix-parity has none"
    ):
        Aligned()(inputs(model, task=task, batch=task.batch(4, seed=0)))
    with pytest.raises(LoopscopeError, match=r"Aligned.order must be a whole number, 1 or more"):
        Aligned((1, 0))
