"""The base of every verdict: an enumeration whose members carry their sentence."""

from enum import Enum
from typing import TypeVar


class Verdict(Enum):
    """A conclusion of an analysis, as an enumeration. The value of each member is its sentence.

    The member `unclear`, if there is one, says that the numbers allow several of the others; which,
    is in the result's `evidence`.
    """

    @property
    def sentence(self) -> str:
        """The conclusion as a sentence."""
        return str(self.value)

    def __str__(self) -> str:
        return self.sentence


UNCLEAR = "Unclear: these numbers allow more than one conclusion."
"""The sentence of the member `unclear`."""

V = TypeVar("V", bound=Verdict)
