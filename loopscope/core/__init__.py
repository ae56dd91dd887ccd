"""The idea of a loop: these files are the core that all other folders build on.

looped_model  the four functions, and the driver that runs them
loop_index    the clock: which iteration is running, and which turn of each inner loop
outside_modes  a block without the caller's autocast and inference mode
turns         of several threads, one at a time computes with a module
states        a site's values over the iterations
indexing      selections along named axes
state_tree    functions over a state that is one tensor or a named tuple of tensors
sites         named places whose activation can be recorded or edited
hooks         functions attached to modules for a while
readout_protocol  how a state becomes logits, as the lenses need it
tokens        the check that tokens are tokens of a model
"""

from .loop_index import Clock as Clock
from .looped_model import Looped as Looped
from .looped_model import drive as drive
from .states import States as States
