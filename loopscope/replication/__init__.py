"""Replications of published findings: a claim with its metric and its criterion, measured on
trainings whose seeds are drawn after the recipe was committed, and passed or failed by one rule."""

from .finding import Finding as Finding
from .finding import Paper as Paper
from .measurement import Interval as Interval
from .measurement import Measurement as Measurement
from .replication import Replication as Replication
from .rule import Status as Status
from .trainings import Trainings as Trainings
