"""TokenStream: calls a function of the user's with each new token of a generation as it is
chosen."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


class TokenStream:
    """Counts the tokens that the function has had."""

    def __init__(self, function: Callable[[int, Tensor], Any] | None, prompt: Any) -> None:
        """
        Arguments:
            prompt: the tokens that generate is given, if they are a tensor (row, position).
        """
        self.function, self.prompt = function, prompt
        self.start: int | None = None
        """How many positions of the sequences are the prompt; None before the first token."""
        self.count = 0
        self.error: Exception | None = None
        """What the function raised."""

    def take(self, sequences: Any) -> None:
        """Call the function with each token of these sequences (row, position), the prompt first,
        that it hasn't had."""
        if self.function is None or not isinstance(sequences, Tensor) or sequences.ndim != 2:
            return
        if self.start is None:
            self.start = self._prompt_of(sequences)
        while self.start + self.count < sequences.shape[1]:
            token = sequences[:, self.start + self.count].detach().to("cpu", copy=True)
            try:
                self.function(self.count, token)
            except Exception as error:
                self.error = error
                raise
            self.count += 1

    def _prompt_of(self, sequences: Tensor) -> int:
        """Generate may return a prompt of its own, such as none for embeddings: its first sequences
        then have one new token."""
        if isinstance(self.prompt, Tensor) and self.prompt.ndim == 2:
            width = self.prompt.shape[1]
            first = sequences[0, :width].cpu()
            if first.shape == self.prompt[0].shape and bool((first == self.prompt[0].cpu()).all()):
                return width
        return sequences.shape[1] - 1
