"""All files below a folder: links are followed, what systems leave behind is left out, and what cannot be read is named."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fracture_mae.errors import FractureMaeError, legible

logger = logging.getLogger(__name__)

# Texts, tables and programs beside pictures.
_NO_PICTURES = {
    *(
        ".csv",
        ".tsv",
        ".txt",
        ".json",
        ".jsonl",
        ".md",
        ".rst",
        ".yaml",
        ".yml",
        ".xml",
        ".html",
        ".ini",
        ".cfg",
        ".toml",
        ".log",
    ),
    *(
        ".db",
        ".sqlite",
        ".cache",
        ".xlsx",
        ".xls",
        ".ods",
        ".docx",
        ".doc",
        ".pdf",
        ".py",
        ".ipynb",
        ".sh",
        ".lnk",
        ".url",
        ".tmp",
    ),
}
_JUNK_FOLDERS = {
    *(
        "__macosx",
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
    ),
    *("system volume information", "lost+found", "found.000", "__pycache__", "network trash folder", "temporary items"),
}
_JUNK_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}


@dataclass
class Tree:
    """What is below a folder.

    Attributes:
        files: all that may be pictures, and links that lead nowhere; sorted.
        closed: folders that cannot be read, and why.
        loops: links to a folder that they lie in; not followed.
        left_out: kind of junk → number of files.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    closed: dict[Path, str] = field(default_factory=dict)
    loops: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def tell(self) -> None:
        """Warn of what is not used."""
        if self.left_out:
            kinds = ", ".join(f"{n:,} in or called {name}" for name, n in self.left_out.most_common(5))
            logger.warning(
                "%d files that are hidden or that a system has left behind are left out: %s.",
                self.left_out.total(),
                kinds,
            )
        if self.loops:
            logger.warning(
                "%d links lead back to a folder that they lie in, and are not followed, the first of them %s.",
                *(len(self.loops), legible(str(self.loops[0].relative_to(self.root)))),
            )
        for folder, reason in list(self.closed.items())[:5]:
            logger.warning(
                "the folder %s cannot be read (%s), nothing in it is used. Give yourself the right to read it, or move it away.",
                *(legible(str(folder)), reason),
            )


def walk(root: Path) -> Tree:
    """What is below a folder.

    Raises:
        FractureMaeError: the folder itself cannot be read.
    """
    tree = Tree(root)
    waiting = [(root, (os.path.realpath(root),))]
    while waiting:
        waiting += _enter(*waiting.pop(), tree)
    if root in tree.closed:
        raise FractureMaeError(
            f"{root} cannot be read: {tree.closed[root]}. Expected: a folder that you have the right to read."
        )
    tree.files.sort()
    return tree


def may_be_a_picture(path: Path) -> bool:
    """Whether a file is neither hidden, nor a text, nor junk, by its name."""
    return path.suffix.lower() not in _NO_PICTURES and _junk(path.name, is_folder=False) is None


def _enter(folder: Path, above: tuple[str, ...], tree: Tree) -> list[tuple[Path, tuple[str, ...]]]:
    """Add what is in a folder; returns the folders in it.

    Args:
        above: the real folders that lead here, this one last.
    """
    try:
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError as error:
        tree.closed[folder] = error.strerror or type(error).__name__
        return []
    below = []
    for entry in entries:
        path, is_folder = Path(entry.path), _is(entry.is_dir)
        junk = _junk(entry.name, is_folder)
        if junk is not None:
            tree.left_out[junk] += sum(len(names) for _, _, names in os.walk(path)) if is_folder else 1
        elif is_folder:
            real = os.path.realpath(path) if entry.is_symlink() else os.path.join(above[-1], entry.name)
            if entry.is_symlink() and any(Path(each).is_relative_to(real) for each in above):
                tree.loops.append(path)
            else:
                below.append((path, (*above, real)))
        elif path.suffix.lower() not in _NO_PICTURES and (_is(entry.is_file) or _leads_nowhere(path)):
            tree.files.append(path)
    return below


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # such as a link to itself
        return False


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not os.path.exists(path)


def _junk(name: str, is_folder: bool) -> str | None:
    """What kind of junk it is, in words; None where it is none."""
    if name.lower() in (_JUNK_FOLDERS if is_folder else _JUNK_FILES):
        return legible(name.strip())
    return "hidden files" if name.startswith((".", "~$")) else None
