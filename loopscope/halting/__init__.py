"""When a loop stops: what models record of it, rules that decide it, and answers that use it.

exit_rules        decides early exits: the named rules, and when they stop a run's positions
rule              a rule: a quantity and its threshold; observation: what a rule reads
state_rules       rules that compare successive states
answer_rules      rules that read answers
model_rules       a model's own halting as a rule
answer_with_exit  answers of a model; rows that have halted leave the batch (shrinking_batch)
halting_record    what a run holds of its halting
metrics           what stopping costs and saves
"""

from typing import TYPE_CHECKING

from ..common.lazy_names import lazy_names

if TYPE_CHECKING:
    from .answer_with_exit import Answer as Answer
    from .answer_with_exit import answer as answer
    from .halting_record import Halting as Halting
else:
    lazy_names(__name__)
