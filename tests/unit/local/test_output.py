"""Log files of bounded size, and the last lines in memory."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from provider.local.output import KEPT_FILES, MAX_LINE, Log, Tail


class Written:
    """Takes the place of a log file."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, source: str, lines: list[str]) -> None:
        self.lines += lines


def tail_of(pieces: list[bytes]) -> tuple[tuple[str, ...], list[str]]:
    written = Written()
    tail = Tail(written, "aaaa", kept=5)  # type: ignore[arg-type]
    for piece in pieces:
        tail.feed(piece)
    tail.end()
    return tail.lines, written.lines


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=20), max_size=20), st.data())
def test_lines_are_whole_however_the_output_is_cut(lines: list[str], data: st.DataObject) -> None:
    output = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(output)), max_size=5)))
    pieces = [output[a:b] for a, b in zip([0, *cuts], [*cuts, len(output)], strict=True)]
    assert tail_of(pieces) == (tuple(lines[-5:]), lines)


def test_a_last_line_without_a_line_break_is_a_line() -> None:
    assert tail_of([b"one\ntw", b"o"])[0] == ("one", "two")


def test_a_line_that_never_ends_does_not_fill_the_memory() -> None:
    kept, _ = tail_of([b"x" * 100_000] * 10)
    assert max(map(len, kept)) == MAX_LINE


def test_the_log_is_put_aside_when_it_is_large_and_old_ones_go(tmp_path: Path) -> None:
    log = Log(tmp_path, max_bytes=1000)
    for number in range(200):
        log.write("aaaa", [f"line {number}"])
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["current.log", *(f"current.log.{number}" for number in range(1, KEPT_FILES + 1))]
    assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())
    everything = "".join((tmp_path / name).read_text() for name in [*reversed(files[1:]), "current.log"])
    assert everything.endswith("aaaa line 199\n")


def test_a_log_goes_on_where_an_earlier_supervisor_ended(tmp_path: Path) -> None:
    for line in ("one", "two"):
        log = Log(tmp_path)
        log.write("aaaa", [line])
        log.close()
    assert [line.split(" ", 1)[1] for line in (tmp_path / "current.log").read_text().splitlines()] == [
        "aaaa one",
        "aaaa two",
    ]
