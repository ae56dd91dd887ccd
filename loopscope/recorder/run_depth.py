"""depth_of: up to which iteration a run's model goes by itself, and what that number is. A page
has one such depth, whether its model stops after a fixed number of iterations or when it has
halted."""

from dataclasses import dataclass

from ..runs.run import Run


@dataclass(frozen=True)
class RunDepth:
    """A number of iterations, and what it is."""

    iterations: int
    text: str
    """Such as "the model's own depth", to stand behind the number."""


def depth_of(run: Run) -> RunDepth:
    """The model's own number of iterations; fewer where its loop ended by itself for all examples,
    or where fewer were recorded."""
    own, n = getattr(run.model, "iterations", None) if run.has_model else None, run.iterations
    if not isinstance(own, int):
        return RunDepth(n, "all that were recorded")
    if n >= own:
        return RunDepth(own, "the model's own depth")
    if ended_by_itself(run):
        return RunDepth(n, f"when the loop had ended by itself for all examples (at most {own})")
    return RunDepth(n, f"all that were recorded (the model's own depth is {own})")


def is_stack(run: Run) -> bool:
    """Whether one iteration is the whole model, so that nothing loops."""
    return run.has_model and getattr(run.model, "iterations", None) == 1


def ended_by_itself(run: Run) -> bool:
    """Whether the loop ended for all examples before as many iterations as were asked for."""
    return int(run.origin.get("requested_iterations", run.iterations)) > run.iterations


def beyond_of(run: Run) -> str:
    """How states are followed to where the model by itself doesn't go, after "followed to k = 65";
    empty where it goes on like that."""
    if is_stack(run):
        return "with the model's one iteration applied again and again"
    return "past the iteration at which the loop ends by itself" if ended_by_itself(run) else ""
