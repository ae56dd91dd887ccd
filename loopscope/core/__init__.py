"""The idea of a loop, and nothing else: who reads these files knows how loopscope works.

looped_model  the four functions, and the driver that runs them
loop_index    which iteration is running now, and which turn of each inner loop
states        a site's values over the iterations
state_tree    functions over a state that is one tensor or a named tuple of tensors
sites         named places whose activation can be recorded or edited
hooks         functions attached to modules, and taken off again
readout       what a lens must know about how a state becomes logits
tokens        what a model takes as tokens
"""

from .loop_index import Clock as Clock
from .looped_model import Looped as Looped
from .looped_model import drive as drive
from .states import States as States
