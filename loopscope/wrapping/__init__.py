"""Makes a module that others wrote recordable: as a known family, or by its loop body alone."""

from .wrap_module import Wrapped as Wrapped
from .wrap_module import wrap as wrap
