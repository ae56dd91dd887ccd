"""Parts of looped transformers. Importing them imports TransformerLens; `import loopscope`
doesn't."""

from .act import ACT as ACT
from .act import ACTState as ACTState
from .attention import Attention as Attention
from .block import Block as Block
from .block import Norm as Norm
from .config_checks import check_choices as check_choices
from .embedding import Embedding as Embedding
from .exit_gate import ExitGate as ExitGate
from .exit_gate import ExitGateModule as ExitGateModule
from .exit_gate import ExitState as ExitState
from .huginn_init import random_state as random_state
from .huginn_init import truncated_init as truncated_init
from .injection import Injection as Injection
from .looped_module import LoopedModule as LoopedModule
from .lti import LTI as LTI
from .mlp import MLP as MLP
from .position import Positions as Positions
from .position import sinusoid as sinusoid
from .positioned_embedding import PositionedEmbedding as PositionedEmbedding
from .stack import Stack as Stack
from .two_level import InitialStates as InitialStates
from .two_level import QHead as QHead
from .two_level import TwoLevelState as TwoLevelState
from .two_level import level_network as level_network
