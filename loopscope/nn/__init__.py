"""Parts that looped transformers are built from. Importing them imports TransformerLens; `import loopscope` does not."""

from .attention import Attention as Attention
from .block import Block as Block
from .block import Norm as Norm
from .embedding import Embedding as Embedding
from .exit import ExitGate as ExitGate
from .exit import Exiting as Exiting
from .exit import ExitState as ExitState
from .halting import ACT as ACT
from .halting import ACTState as ACTState
from .injection import Injection as Injection
from .kinds import checked_kinds as checked_kinds
from .levels import Levels as Levels
from .levels import QHead as QHead
from .levels import Start as Start
from .levels import level as level
from .looped import LoopedModule as LoopedModule
from .lti import LTI as LTI
from .mlp import MLP as MLP
from .placed import Placed as Placed
from .position import Positions as Positions
from .position import sinusoid as sinusoid
from .stack import Stack as Stack
from .truncated import gaussian_start as gaussian_start
from .truncated import truncated_init as truncated_init
