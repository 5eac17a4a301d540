"""Which files of a code folder are no code: what tools leave there, and what the user's `.amlignore` names.

`.amlignore` is Azure's: it has the syntax of .gitignore and lies in the folder itself. A .gitignore is not looked at:
what is not in the repository (a generated module) may well be needed by the service. Models know no such rule: every
file of a model counts.
"""

from __future__ import annotations

from pathlib import Path

from provider.content.errors import ContentError
from provider.content.tree import Ignore

_FOLDERS = {"__pycache__", ".git", ".venv", ".ipynb_checkpoints"}
_FILES = {".amlignore", ".DS_Store"}


def ignored_in(directory: Path) -> Ignore:
    """The rule of a code folder. Raises `ContentError` where its `.amlignore` cannot be read."""
    listed = _listed_in(directory / ".amlignore")

    def ignored(path: str, is_folder: bool) -> bool:
        name = path.rpartition("/")[2]
        left_by_tools = name in _FOLDERS if is_folder else name in _FILES or name.endswith(".pyc")
        return left_by_tools or (listed is not None and listed(path, is_folder))

    return ignored


def _listed_in(file: Path) -> Ignore | None:
    try:
        lines = file.read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ContentError(f"{file} cannot be read as text ({error}); mend or remove it") from None
    # Here, since few folders have such a file, and every preview would wait for this import.
    from pathspec import GitIgnoreSpec

    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise ContentError(f"{file} holds a pattern that cannot be understood ({error}); mend that line") from None
    return lambda path, is_folder: spec.match_file(f"{path}/" if is_folder else path)
