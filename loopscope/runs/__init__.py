"""One recorded forward pass: what it holds, what of it is kept, and how it is stored."""

from .run import Run as Run
