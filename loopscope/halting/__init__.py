"""When a loop stops: what models record of it, rules that decide it, and answers that use it.

exit_rules        decide for each position whether to stop
answer_with_exit  runs a model so that rows that have stopped leave the batch
halting_record    what a run holds of its halting
metrics           what stopping costs and saves
"""

from .answer_with_exit import Answer as Answer
from .answer_with_exit import answer as answer
from .halting_record import Halting as Halting
