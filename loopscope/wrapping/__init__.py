"""Record a module written by others: with an adapter, or by its loop body alone."""

from .wrap_module import Wrapped as Wrapped
from .wrap_module import wrap as wrap
