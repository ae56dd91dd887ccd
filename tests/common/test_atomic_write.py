"""A file is written whole or not at all, and what a killed writer left is litter to the next."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from loopscope.common.atomic_write import atomic_write, remove_litter, save_text
from loopscope.common.errors import LoopscopeError

WRITER = """
import os, signal, sys
from pathlib import Path
from loopscope.common.atomic_write import atomic_write
with atomic_write(Path(sys.argv[1])) as part:
    part.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing tmp_path/a.txt."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a.txt")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_a_text_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("old\n", "é\n"):
        save_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert os.listdir(tmp_path) == ["a.txt"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["a.txt", "x" * 255, "é" * 127, "a b\n", ".part"])
def test_what_was_there_stays_when_the_write_fails(tmp_path, name):
    path = tmp_path / name
    save_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            assert path.read_text() == "old" and part.parent == tmp_path
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old" and os.listdir(tmp_path) == [name]


def test_a_folder_that_is_missing_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        save_text(tmp_path / "none" / "a.txt", "text")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a device"])
def test_what_is_no_file_is_never_replaced(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(os.devnull)
    before = path.lstat()
    with pytest.raises(LoopscopeError, match="must be a file to be replaced"):
        save_text(path, "text")
    assert path.lstat().st_ino == before.st_ino and os.listdir(tmp_path) == ["a"]


def test_the_file_of_a_living_writer_stays_and_that_of_a_dead_one_goes(tmp_path, writer):
    (part,) = os.listdir(tmp_path)
    for _ in range(3):
        remove_litter(tmp_path)
        save_text(tmp_path / "b.txt", "text")
    assert sorted(os.listdir(tmp_path)) == sorted([part, "b.txt"])
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert part in os.listdir(tmp_path)
    save_text(tmp_path / "c.txt", "text")
    assert sorted(os.listdir(tmp_path)) == ["b.txt", "c.txt"]


def test_a_living_writer_ends_undisturbed(tmp_path, writer):
    remove_litter(tmp_path)
    writer.communicate("\n")
    assert writer.returncode == 0 and (tmp_path / "a.txt").read_text() == "half"


def test_files_of_older_versions_are_litter_and_those_of_others_are_not(tmp_path):
    others = ["film.part", ".film.abcdefgh.part", ".loopscope-note.part.txt", ".loopscope-x.part", "a.part"]
    for name in [".run.safetensors.x7_abcde.part", ".loopscope-x7_abcde.part", *others]:
        (tmp_path / name).write_text("")
    (tmp_path / ".loopscope-folders0.part").mkdir()
    os.mkfifo(tmp_path / ".loopscope-pipes000.part")
    remove_litter(tmp_path)
    assert set(os.listdir(tmp_path)) == {*others, ".loopscope-folders0.part", ".loopscope-pipes000.part"}
    remove_litter(tmp_path / "none")


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    texts = [str(i) * 10_000 for i in range(8)]

    def write(text: str) -> None:
        for _ in range(20):
            save_text(tmp_path / "a.txt", text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.txt").read_text() in texts and os.listdir(tmp_path) == ["a.txt"]
