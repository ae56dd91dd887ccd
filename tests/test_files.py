"""A file is written whole or not at all."""

import os

import pytest

from loopscope.files import atomic_write, clear_parts, save_text


def test_a_text_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("old\n", "é\n"):
        save_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert os.listdir(tmp_path) == ["a.txt"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_was_there_stays_when_the_write_fails(tmp_path):
    path = tmp_path / "a.txt"
    save_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            assert path.read_text() == "old" and part.parent == tmp_path
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_is_missing_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        save_text(tmp_path / "none" / "a.txt", "text")


def test_what_a_killed_write_left_is_cleared(tmp_path):
    for name in (".a.txt.x7.part", ".b.txt.x7.part", "a.txt"):
        (tmp_path / name).write_text("")
    clear_parts(tmp_path / "a.txt")
    assert sorted(os.listdir(tmp_path)) == [".b.txt.x7.part", "a.txt"]
