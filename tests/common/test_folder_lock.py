"""Two never work in one folder, and the death of the first lets the next one in."""

import os
import signal
import subprocess
import sys

import pytest

from loopscope.common.errors import LoopscopeError
from loopscope.common.folder_lock import exclusive_use

HOLDER = """
import sys
from pathlib import Path
from loopscope.common.folder_lock import exclusive_use
with exclusive_use(Path(sys.argv[1]), "training"):
    print("holding", flush=True)
    sys.stdin.readline()
"""


def refused(folder, what="training"):
    with pytest.raises(LoopscopeError, match="must be used by one") as error, exclusive_use(folder, what):
        pass
    return str(error.value)


def test_the_second_is_refused_until_the_first_has_ended_or_died(tmp_path):
    for end in ("end", "death"):
        command = [sys.executable, "-c", HOLDER, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout.readline() == "holding\n"
            assert f"(process {first.pid} on " in refused(tmp_path)
            with exclusive_use(tmp_path, "sweep"):
                pass  # another kind of work
            if end == "end":
                first.communicate("\n")
            else:
                first.send_signal(signal.SIGKILL)
                first.wait()
        with exclusive_use(tmp_path, "training"):
            assert f"(process {os.getpid()} on " in refused(tmp_path)
        assert os.listdir(tmp_path) == []


def test_an_error_lets_the_folder_go(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_use(tmp_path, "training"):
        raise ZeroDivisionError
    with exclusive_use(tmp_path, "training"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_note_of_someone_else_is_no_obstacle(tmp_path):
    (tmp_path / ".training.lock").write_text("[" * 50_000)
    with exclusive_use(tmp_path, "training"):
        assert "(process" in refused(tmp_path)
    missing = exclusive_use(tmp_path / "none", "training")
    with pytest.raises(LoopscopeError, match="must be a folder that can be written"), missing:
        pass
