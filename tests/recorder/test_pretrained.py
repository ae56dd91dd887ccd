"""Models in Hugging Face's format, from a folder and without a network: the whole path."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import loopscope as ls
from loopscope.cli import app
from loopscope.recorder import pretrained

from ..toys.small_models import hrm_text_folder

ONE = ["--iterations", "2"]


@pytest.fixture(scope="module")
def folder():
    return hrm_text_folder()


def test_the_whole_path_on_a_model_from_disk(folder):
    """Wrap, record both clocks, patch a late high state into an early cycle, read every cycle,
    generate with a cache."""
    model = ls.from_pretrained(folder)
    tokens = torch.randint(0, 40, (2, 6), generator=torch.Generator().manual_seed(0))
    run = ls.record(model, tokens, sites=["model.L_module.layers.0.self_attn"])
    assert torch.equal(run.output, model(tokens).logits)
    assert run["model.L_module.layers.0.self_attn"].shape[:2] == (2, 3)
    late = ls.patch("state", iteration=1, value=run.states[2])
    swapped = ls.record(model, tokens, edits=[late])
    assert torch.equal(swapped.states[1], run.states[2])
    assert not torch.equal(swapped.output, run.output)
    assert [run.logits[k].shape for k in range(3)] == [(2, 6, 40)] * 3
    out = ls.generate(model, tokens, max_new_tokens=3, do_sample=False)
    assert out.at(token=2)[1].shape == (2, 1, 16)


def test_a_report_is_made_of_it(folder):
    page = ls.report(pretrained.record_pretrained(folder, examples=2), ["convergence", "cycles"])
    assert "HrmTextForCausalLM" in page.html
    assert page.title == Path(folder).name


def test_measure_takes_a_folder(folder):
    done = CliRunner().invoke(app, ["measure", "cycles", folder, "--json", "--examples", "2"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"]


def test_texts_are_read_by_its_own_tokenizer_padded_and_masked(folder):
    run = pretrained.record_pretrained(folder, texts=["w1 w2 w3", "w4"])
    assert run.tokens.tolist()[1] == [39, 39, 4]
    assert run.inputs["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert "w1 w2 w3" in run.origin["tokens"]
    alone = pretrained.record_pretrained(folder, texts=["w4"])
    assert run.states.shape[2] == 3
    assert alone.tokens.tolist() == [[4]]


def test_random_tokens_follow_their_seed(folder):
    one, two, other = (
        pretrained.record_pretrained(folder, examples=2, seed=seed).tokens for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_code_that_comes_with_a_model_runs_only_if_its_user_agrees(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "ouro_of_nobody",
                "architectures": ["OuroForCausalLM"],
                "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.OuroForCausalLM"},
            }
        )
    )
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(ls.LoopscopeError, match="runs only if you agree.*trust_remote_code=True"):
        ls.from_pretrained(tmp_path)
    assert not ran.exists()
    done = CliRunner().invoke(app, ["measure", "cycles", str(tmp_path)])
    assert done.exit_code != 0
    assert not ran.exists()


def test_agreed_code_is_what_runs(tmp_path, monkeypatch):
    """The real loading path: a folder with its own code, config and weights."""
    import pathlib
    import shutil

    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "ouro"
    folder.mkdir()
    source = pathlib.Path(__file__).parents[1] / "toys" / "family_doubles.py"
    shutil.copy(source, folder / "doubles.py")
    (folder / "code.py").write_text(REMOTE)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "ouro_of_nobody",
                "architectures": ["OuroForCausalLM"],
                "auto_map": {
                    "AutoConfig": "code.OuroRemoteConfig",
                    "AutoModelForCausalLM": "code.OuroForCausalLM",
                },
                "vocab_size": 40,
                "tie_word_embeddings": False,  # transformers 4 ties them by default
            }
        )
    )
    from safetensors.torch import save_file

    from ..toys.family_doubles import OuroForCausalLM

    torch.manual_seed(1)
    own = OuroForCausalLM().eval()
    save_file(
        {f"inner.{name}": value for name, value in own.state_dict().items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    model = ls.from_pretrained(folder, trust_remote_code=True)
    tokens = torch.randint(0, 40, (2, 5))
    run = ls.record(model, tokens)
    assert torch.equal(run.output, own(tokens).logits)
    assert run.iterations == 4


def test_a_model_of_a_newer_transformers_names_the_version_that_it_needs(tmp_path):
    config = {"model_type": "of_tomorrow", "architectures": ["Tomorrow"], "transformers_version": "99.1.0"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    needed = r"doesn't know models of type 'of_tomorrow', and 99\.1\.0 wrote this one.*transformers>=99\.1\.0"
    with pytest.raises(ls.LoopscopeError, match=needed):
        ls.from_pretrained(tmp_path)


@pytest.mark.parametrize("version", ["3.9.0", "99.1.0"])
def test_code_that_was_written_for_another_transformers_says_so(tmp_path, version, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    named = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    config = {"model_type": "of_others", "auto_map": named, "transformers_version": version}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text("raise ImportError('there is no such name')")
    reason = rf"there is no such name \(It was written by transformers {version}, and [\d.]+ is installed\.\)"
    with pytest.raises(ls.LoopscopeError, match=reason):
        ls.from_pretrained(tmp_path, trust_remote_code=True)


def test_a_model_of_the_installed_transformers_keeps_the_reason_alone(tmp_path):
    import transformers

    config = {"model_type": "albert", "transformers_version": transformers.__version__}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ls.LoopscopeError, match=SENTENCE) as error:
        ls.from_pretrained(tmp_path)
    assert "was written by" not in str(error.value)


REMOTE = """
from transformers import PretrainedConfig, PreTrainedModel
from .doubles import OuroConfig, OuroForCausalLM as Double


class OuroRemoteConfig(PretrainedConfig):
    model_type = "ouro_of_nobody"


class OuroForCausalLM(PreTrainedModel):
    config_class = OuroRemoteConfig

    def __init__(self, config):
        super().__init__(config)
        self.inner = Double(OuroConfig(vocab_size=config.vocab_size))
        self.post_init()

    def _init_weights(self, module):
        pass

    @property
    def model(self):
        return self.inner.model

    @property
    def lm_head(self):
        return self.inner.lm_head

    def forward(self, input_ids, **inputs):
        return self.inner(input_ids, **inputs)
"""


NOWHERE = pytest.mark.parametrize("name", ["nobody/nothing", "universal-prefix-parity"])
SENTENCE = "must be a folder that save_pretrained wrote or a model that transformers finds"


@NOWHERE
def test_a_name_that_is_nowhere_is_an_error_at_once_and_without_a_connection(name, monkeypatch):
    def refused(self, address):
        pytest.fail(f"nothing is asked for where Hugging Face is offline, but {address} was")

    monkeypatch.setattr(socket.socket, "connect", refused)
    with pytest.raises(ls.LoopscopeError, match=f"{name} {SENTENCE}"):
        ls.from_pretrained(name)


@NOWHERE
def test_a_name_that_a_hub_does_not_have_is_an_error(name, monkeypatch):
    from huggingface_hub import constants, file_download
    from transformers.utils import hub

    requests = []

    class Empty(BaseHTTPRequestHandler):
        def do_HEAD(self):
            requests.append(self.path)
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "_is_offline_mode", False, raising=False)  # of transformers 4
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)  # of hub 0
        with pytest.raises(ls.LoopscopeError, match=f"{name} {SENTENCE}.*not a valid model identifier"):
            ls.from_pretrained(name)
        server.shutdown()
    assert f"/{name}/resolve/main/config.json" in requests


def test_an_entrys_name_stays_an_entrys():
    assert not pretrained.is_pretrained_name("universal-prefix-parity")
    assert not pretrained.is_pretrained_name("runs/x/x.safetensors")
    assert pretrained.is_pretrained_name("ByteDance/Ouro-1.4B")
    done = CliRunner().invoke(app, ["measure", "cycles", "universal-prefix-parity", "--text", "x"])
    assert done.exit_code != 0
