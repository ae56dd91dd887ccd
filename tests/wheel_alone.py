"""What must work where the wheel is installed and nothing that only development needs, with the
oldest versions and with the newest: `make matrix` runs this file there, and test_packaging.py in an
environment of its own.

It is a program, since there is no pytest. An error ends it.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

import loopscope as ls

TOKENS = torch.arange(12).reshape(2, 6)


class Net(nn.Module):
    """A foreign module: a contraction, applied ten times."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.core, self.head = nn.Embedding(12, 8), nn.Linear(8, 8), nn.Linear(8, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        x = embedded = self.embed(tokens)
        for _ in range(10):
            x = 0.2 * self.core(x).tanh() + embedded
        return self.head(x)


def foreign_module() -> None:
    """Wrapped by its body: recorded, measured, edited and checked."""
    module = Net().eval()
    model = ls.wrap(module, body="core")
    run = ls.record(model, TOKENS)
    assert run.iterations == 10
    assert torch.equal(run.output, module(TOKENS))
    assert ls.analyses.measure("convergence", run).verdict.name == "settled"
    edited = ls.record(model, TOKENS, edits=[ls.ablate("state", iteration=9)])
    assert not torch.equal(edited.output, run.output)
    assert ls.check(model, TOKENS).passed


def layers_of_transformers() -> None:
    """A feed-forward model gets a loop, whatever its layers return in this version."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=20, n_positions=12, n_embd=8, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0
        )
    )
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=20, num_hidden_layers=3, **sizes))
    for model, layers in ((gpt2.eval(), "transformer.h"), (llama.eval(), "model.layers")):
        run = ls.record(ls.wrap(model, body=layers, order=[0, 1, 2]), TOKENS)
        assert torch.equal(run.output, model(TOKENS, use_cache=False).logits)
        assert ls.record(ls.wrap(model, body=f"{layers}.1:3", repeat=3), TOKENS).iterations == 3


def family_of_transformers(folder: Path) -> None:
    """ALBERT from a folder, in Python and on the command line, by its family or by its body."""
    from transformers import AlbertConfig, AlbertForMaskedLM

    sizes = {"vocab_size": 20, "embedding_size": 8, "hidden_size": 16, "num_hidden_layers": 4}
    config = AlbertConfig(**sizes, num_attention_heads=2, intermediate_size=24)
    albert = AlbertForMaskedLM(config).eval()
    albert.save_pretrained(folder)
    assert torch.equal(ls.record(ls.from_pretrained(folder), TOKENS).output, albert(TOKENS).logits)
    body = "albert.encoder.albert_layer_groups.0"
    assert json.loads(loopscope("check", folder, "--body", body, "--json"))["passed"]
    assert json.loads(loopscope("measure", "convergence", folder, "--json"))["verdict"]


def zoo_model() -> None:
    """Its hook points and its cache are TransformerLens'."""
    model = ls.models.load("universal-prefix-parity")
    run = ls.record(model, model.task.batch(4, seed=0).tokens, sites=["core.0.attn.hook_pattern"])
    assert run.cache(3)["core.0.attn.hook_pattern"].equal(run["core.0.attn.hook_pattern"][3])


def newer_model(folder: Path) -> None:
    """What this transformers doesn't know is refused with the version that wrote it."""
    config = {"model_type": "of_tomorrow", "architectures": ["Tomorrow"], "transformers_version": "99.1.0"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    reason = ""
    try:
        ls.from_pretrained(folder)
    except ls.LoopscopeError as error:
        reason = str(error)
    assert "transformers>=99.1.0" in reason


def loopscope(*command: object) -> str:
    """What the command prints."""
    program = Path(sys.executable).with_name("loopscope")
    done = subprocess.run([program, *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout[done.stdout.find("{") :] if "--json" in command else done.stdout


def main() -> None:
    torch.manual_seed(0)
    with TemporaryDirectory() as home:
        foreign_module()
        layers_of_transformers()
        family_of_transformers(Path(home) / "albert")
        zoo_model()
        newer_model(Path(home) / "tomorrow")


if __name__ == "__main__":
    main()
