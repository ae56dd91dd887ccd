"""Functions in threads of their own."""

import threading
from collections.abc import Callable, Sequence
from typing import Any


def in_threads(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each function returns; all begin together. An exception of one is raised here."""
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []
    begin = threading.Barrier(len(functions))

    def run(number: int) -> None:
        try:
            begin.wait()
            results[number] = functions[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread waits for ever"
    if errors:
        raise errors[0]
    return results
