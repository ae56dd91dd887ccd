"""The base of every verdict: an enumeration whose members carry their sentence."""

import re
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

    @property
    def brief(self) -> str:
        """Its sentence up to the first colon or semicolon, without a full stop at the end; the
        whole sentence where another member begins in the same way.

        >>> Verdict("Weather", {"wet": "It is wet: it rains."}).wet.brief
        'It is wet'
        """
        first = _beginning(self.sentence)
        alike = [one for one in type(self) if _beginning(one.sentence) == first]
        return first if len(alike) == 1 else self.sentence.removesuffix(".")

    def __str__(self) -> str:
        return self.sentence


def _beginning(sentence: str) -> str:
    return re.split("[:;]", sentence)[0].removesuffix(".")


UNCLEAR = "Unclear: these numbers allow more than one conclusion."
"""The sentence of the member `unclear`."""

V = TypeVar("V", bound=Verdict)
