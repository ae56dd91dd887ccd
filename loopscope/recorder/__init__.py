"""Recording: one pass, more iterations of it, a generation, any function, a model in Hugging Face's
format."""

from typing import TYPE_CHECKING

from ..common.lazy_names import lazy_names

if TYPE_CHECKING:
    from .generation import Generation as Generation
    from .iterate_function import iterate as iterate
    from .pass_recording import recording as recording
    from .pretrained import from_pretrained as from_pretrained
    from .record_many import record_many as record_many
    from .record_run import record as record
    from .recorded_generation import generate as generate
    from .resume_run import resume as resume
else:
    lazy_names(__name__)
