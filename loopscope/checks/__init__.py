"""Checks: whether what loopscope says of a model is what the model does, on any model.

print(ls.check(model, tokens))           # a row for each check: pass, fail or refused, and why
"""

from .check import check as check
from .result import CheckResult as CheckResult
from .result import Outcome as Outcome
from .result import Row as Row
