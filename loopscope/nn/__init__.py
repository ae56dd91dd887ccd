"""Parts that looped transformers are built from. Importing them imports TransformerLens; `import
loopscope` does not."""

from .act import ACT as ACT
from .act import ACTState as ACTState
from .attention import Attention as Attention
from .block import Block as Block
from .block import Norm as Norm
from .config_checks import checked_kinds as checked_kinds
from .embedding import Embedding as Embedding
from .exit_gate import ExitGate as ExitGate
from .exit_gate import Exiting as Exiting
from .exit_gate import ExitState as ExitState
from .huginn_init import gaussian_start as gaussian_start
from .huginn_init import truncated_init as truncated_init
from .injection import Injection as Injection
from .looped_module import LoopedModule as LoopedModule
from .lti import LTI as LTI
from .mlp import MLP as MLP
from .position import Positions as Positions
from .position import sinusoid as sinusoid
from .positioned_embedding import Placed as Placed
from .stack import Stack as Stack
from .two_level import Levels as Levels
from .two_level import QHead as QHead
from .two_level import Start as Start
from .two_level import level as level
