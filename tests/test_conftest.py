"""The rules of conftest.py and pyproject.toml hold: seen on tests that break them."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

DEPENDENCY = """
import warnings

def warn(category=UserWarning):
    warnings.warn("of a dependency", category)
"""
PLANTED = """
import socket
import warnings

import dependency
import pytest

import loopscope as ls

def warn_as(module):
    exec("import warnings; warnings.warn('as ' + __name__)", {"__name__": module})

def test_a_dependency_warns():
    dependency.warn()

def test_a_dependency_deprecates():
    dependency.warn(DeprecationWarning)

def test_a_package_with_a_similar_name_warns():
    warn_as("loopscope_of_others")

def test_our_warning_is_attributed_to_a_dependency():
    dependency.warn(ls.LoopscopeWarning)

def test_a_test_warns():
    warnings.warn("of a test")

@pytest.mark.parametrize("module", ["loopscope", "loopscope.maths.period", "models.huginn", "analyses.lens"])
def test_we_warn(module):
    warn_as(module)

def test_the_network_is_used():
    socket.create_connection(("192.0.2.1", 80), timeout=0.1)
"""


def test_our_own_warnings_and_connections_fail_a_test_and_a_dependencys_warnings_do_not(tmp_path):
    planted = tmp_path / "tests"
    planted.mkdir()
    (tmp_path / "dependency.py").write_text(DEPENDENCY)
    (planted / "__init__.py").touch()
    (planted / "test_planted.py").write_text(PLANTED)
    shutil.copy(ROOT / "tests" / "conftest.py", planted)
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    command += ["-p", "no:cacheprovider", "-v", planted]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(
        [str(word) for word in command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    outcomes = dict(re.findall(r"::(\S+) (PASSED|FAILED)", done.stdout))
    assert {name for name, outcome in outcomes.items() if outcome == "PASSED"} == {
        "test_a_dependency_warns",
        "test_a_dependency_deprecates",
        "test_a_package_with_a_similar_name_warns",
    }, done.stdout + done.stderr
    assert len(outcomes) == PLANTED.count("def test_") + 3
    assert "tests/test_planted.py::test_the_network_is_used asked for 192.0.2.1" in done.stdout


def test_the_modules_whose_signatures_are_checked_exist():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    options = settings["tool"]["pytest"]["ini_options"]["addopts"]
    *modules, checker = re.search(r"--jaxtyping-packages=(\S+)", options)[1].split(",")
    assert len(modules) > 5
    assert [module for module in modules if find_spec(module) is None] == []
    package, name = checker.rsplit(".", 1)
    assert callable(getattr(import_module(package), name))


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid"])
def test_a_connection_to_another_machine_names_its_test(host):
    with socket.socket() as other:
        connections = [
            lambda: other.connect((host, 80)),
            lambda: other.connect_ex((host, 80)),
            lambda: socket.create_connection((host, 80)),
            lambda: socket.getaddrinfo(host, 80),
        ]
        for connection in connections:
            with pytest.raises(pytest.fail.Exception, match=f"names_its_test.* asked for {host}"):
                connection()


def test_a_connection_to_this_machine_is_left_alone():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as other:
        other.connect(server.getsockname())
        assert other.getpeername() == server.getsockname()
