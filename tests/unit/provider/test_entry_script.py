"""What an entry script lacks, found by reading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider.entry_script import inspect_entry_script

RUN = "def run(raw_data):\n    return raw_data\n"
INIT = "def init():\n    pass\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "score.py"


def problems_of(script: Path, text: str) -> list[str]:
    script.write_text(text)
    return inspect_entry_script(script)


@pytest.mark.parametrize(
    "text",
    [
        INIT + RUN,
        "async def init(): ...\nasync def run(data): ...\n",
        "from model import init, run\n",
        "import scoring\nfrom scoring import start as init\nrun = scoring.run\n",
        "from scoring import *\n",
        "init, run = make()\n",
        "init = run = print\n",
        "init: object = print\nrun: object = print\n",
        "if True:\n    from a import init\nelse:\n    from b import init\n" + RUN,
        INIT + "try:\n    from c import run\nexcept ImportError:\n    def run(data): ...\n",
        "with setup() as init:\n    " + RUN.replace("\n", "\n    "),
        "match 1:\n    case 1:\n        init = run = print\n",
        "(init := print)\n" + RUN,
        "globals().update(make())\n",
        "def init(path='model', *rest, device=None, **more): ...\n" + RUN,
        INIT + "def run(data, request_headers): ...\n",
        INIT + "def run(sepal=1, petal=2): ...\n",
        INIT + "@input_schema('data', sample)\ndef run(*args): ...\n",
        "def init(required): ...\n" + RUN + INIT,
        'PATTERN = "\\d"\n' + INIT + RUN,
        "\ufeff" + INIT + RUN,
    ],
)
def test_nothing_is_wrong(script: Path, text: str) -> None:
    assert problems_of(script, text) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (RUN, ["defines no init() at its top level; add `def init():`"]),
        (INIT, ["defines no run() at its top level; add `def run(raw_data):`"]),
        (
            "",
            [
                "defines no init() at its top level; add `def init():`",
                "defines no run() at its top level; add `def run(raw_data):`",
            ],
        ),
        (
            INIT + "def start():\n    def run(data): ...\n",
            ["defines no run() at its top level; add `def run(raw_data):`"],
        ),
        (INIT + "run: object\n", ["defines no run() at its top level; add `def run(raw_data):`"]),
        (INIT + RUN + "del run\n", ["defines no run() at its top level; add `def run(raw_data):`"]),
        (INIT + "box.run = print\n", ["defines no run() at its top level; add `def run(raw_data):`"]),
        (
            INIT + "class Model:\n    def run(self, data): ...\n",
            [
                "defines no run() at its top level (run of the class Model does not count: it is called as a plain "
                "function); add `def run(raw_data):`"
            ],
        ),
    ],
)
def test_a_function_is_missing(script: Path, text: str, told: list[str]) -> None:
    assert problems_of(script, text) == [f"{script} {problem}" for problem in told]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "def init(path, *, device): ...\n" + RUN,
            "line 1: init() is called without arguments, but needs path, device; "
            "write `def init():`, or give every parameter a default",
        ),
        (
            INIT + "def run(): ...\n",
            "line 3: run() takes no request data; give it a parameter, as in `def run(raw_data):`",
        ),
        (
            INIT + "async def run(request_headers): ...\n",
            "line 3: run() takes no request data; give it a parameter, as in `def run(raw_data):`",
        ),
        *(
            (
                INIT + f"def run({parameters}): ...\n",
                "line 3: run() has *, ** or positional-only parameters; name each one, as in `def run(raw_data):`",
            )
            for parameters in ("*data", "**data", "data, /")
        ),
    ],
)
def test_the_parameters_do_not_fit(script: Path, text: str, told: str) -> None:
    assert problems_of(script, text) == [f"{script}, {told}"]


def test_a_syntax_error_is_shown_with_its_line(script: Path) -> None:
    assert problems_of(script, INIT + "def run(data)\n    return data\n") == [
        f"{script}, line 3: expected ':': def run(data); correct the syntax"
    ]


def test_the_script_is_not_run(script: Path, tmp_path: Path) -> None:
    text = f"open({str(tmp_path / 'trace')!r}, 'w')\nraise SystemExit\n" + INIT + RUN
    assert problems_of(script, text) == []
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("content", [b"\0", b"# coding: none\n", b"x = '\xff'\n", b"(" * 10_000])
def test_what_is_no_python_text(script: Path, content: bytes) -> None:
    script.write_bytes(content)
    (problem,) = inspect_entry_script(script)
    assert str(script) in problem
    assert problem.endswith(("correct the syntax", "mend the file"))


def test_a_missing_script(script: Path) -> None:
    assert inspect_entry_script(script) == [f"{script} is missing; create it, or correct the path"]


def test_a_folder_in_its_place(script: Path) -> None:
    script.mkdir()
    assert inspect_entry_script(script) == [f"{script} cannot be read: Is a directory"]


def test_another_kind_of_file(tmp_path: Path) -> None:
    assert inspect_entry_script(tmp_path / "score.ipynb") == [
        f"{tmp_path}/score.ipynb is no Python file; an entry script's name ends in .py"
    ]


def test_it_lies_in_the_source_directory(script: Path, tmp_path: Path) -> None:
    script.write_text(INIT + RUN)
    (tmp_path / "code").mkdir()
    told = [
        f"{tmp_path}/code/../score.py lies outside the source directory {tmp_path}/code; "
        f"move it there, or correct the path"
    ]
    assert inspect_entry_script(tmp_path / "code" / ".." / "score.py", tmp_path / "code") == told
    assert inspect_entry_script(script, tmp_path) == []
