"""A loss through an RMSNorm at every iteration leaves the state's norm uncontrolled; a penalty on
the norm controls it at equal accuracy ("The readout blind spot", arXiv 2606.24898).

One layer with recall and without an outer norm (recall-plain), trained on the answers after each of
the last eight iterations, once without and once with the penalty of the architecture: the squared
log of the state's size over the input's. Growth is the mean norm after 40 iterations, twice the
entry's own, over that after one.
"""

from dataclasses import replace

from loopscope.recorder import record
from loopscope.replication import Finding, Measurement, Paper, Trainings
from loopscope.training import Every, Ramp, Recipe, accuracy, recipe_of

finding = Finding(
    number=28,
    claim="Dense per-loop CE through RMSNorm leaves the norm uncontrolled; a scale-visible readout or norm "
    "penalty fixes it",
    source=Paper("", 2026, "2606.24898"),
    metric="final ‖h‖ by k",
    criterion="plain > 10x, with penalty < 3x, equal accuracy",
    minutes=15,
)

ITERATIONS, EXAMPLES, SCORED = 40, 64, 2000


def trainings() -> dict[str, Recipe]:
    """Dense supervision, without and with the penalty."""
    plain = replace(recipe_of("recall-plain"), supervision=Every())
    return {"plain": plain, "penalty": replace(plain, penalty=Ramp(weight=0.1, start=0, steps=200))}


def measure(seed: int, trained: Trainings) -> Measurement:
    """Growth and accuracy of both."""
    numbers, curves = {}, {}
    for name in ("plain", "penalty"):
        model = trained(name)
        run = record(model, model.task.batch(EXAMPLES, seed=seed).tokens, ITERATIONS)
        norms = run.states.tensor.norm(dim=-1).mean((1, 2))
        curves[f"norm of the state, {name}"] = norms.tolist()
        numbers[f"growth, {name}"] = float(norms[ITERATIONS] / norms[1])
        numbers[f"accuracy, {name}"] = float(accuracy(model, size=SCORED, seed=seed).positions[-1])
    return Measurement(numbers, curves)


def holds(numbers: dict[str, float]) -> bool:
    """Accuracies are equal within one point."""
    equal = abs(numbers["accuracy, plain"] - numbers["accuracy, penalty"]) <= 0.01
    return numbers["growth, plain"] > 10 and numbers["growth, penalty"] < 3 and equal
