"""What is one's own: how it comes onto the shelves, and templates to start from."""

from .new import new as new
from .use import SHELVES as SHELVES
from .use import use as use
