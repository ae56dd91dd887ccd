"""What a foreign module needs: neither TransformerLens nor transformers is imported for it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
import torch
import loopscope as ls

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.core = torch.nn.Embedding(9, 8), torch.nn.Linear(8, 8)

    def forward(self, tokens):
        x = self.embed(tokens)
        for _ in range(12):
            x = 0.1 * torch.tanh(self.core(x))
        return x

run = ls.record(ls.wrap(Net(), body="core"), torch.arange(9)[None])
ls.report(run, analyses=["convergence", "attention", "cycles"])
heavy = {"transformer_lens", "transformers", "datasets"} & set(sys.modules)
print(ls.analyses.measure("convergence", run).verdict.name, heavy or "light")
"""


def test_a_foreign_module_is_wrapped_recorded_and_reported_without_transformer_lens():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["settled", "light"]
