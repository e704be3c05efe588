"""Damaged files of every kind through the decoder, the index and the server: `python -m tests.fuzz --minutes 5 --folder found`.

What ends a process, takes too long, raises what it should not or is read as something else is kept in the folder, to become a test in
tests/unit/data/reading/test_damaged.py. A process of its own decodes, so that one that ends is started again behind the file that
ended it.
"""

import base64
import hashlib
import io
import json
import multiprocessing
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
from PIL import Image

from fracture_mae.data.reading import dicom_index, tiff
from fracture_mae.data.reading.cache import ImageStore
from fracture_mae.data.reading.decoding import UnreadableImage, decode
from fracture_mae.data.reading.dicom_signature import SIGNATURE, is_dicom
from fracture_mae.data.reading.encoding import encoding_of
from fracture_mae.data.reading.exposure import to_grey_levels
from tests import damage, pictures

LONGEST = 5.0  # seconds that a file of a few kilobytes may take
_UNTIL_ENDED = 20.0  # seconds after which a process is taken to hang
_NETWORK = SimpleNamespace(
    image_size=32, preprocess="letterbox"
)  # what the server asks a network, before it is shown a picture
_ALIKE = 0.99
_WHERE = ("decoder", "decoder", "index", "server")
READ, REFUSED = "read", "refused"


def look(content, path, where):
    """read or refused, what is odd about it ("" where nothing is), and the reason of the refusal.

    Args:
        path: of a file with the same content.
        where: decoder, index or server.
    """
    try:
        if where == "decoder":
            grey = decode(content)
            encoding_of(content)
            return READ, other_than_pillows(content, grey), ""
        if where == "index":
            dicom_index.headers([str(path)])
            *_, reason = ImageStore(path.parent, 32)._decode_one(str(path))
        else:
            reason = _refused_by_server(content)
        return (REFUSED, "", reason) if reason else (READ, "", "")
    except UnreadableImage as error:
        odd = "" if str(error) and len(str(error)) < 500 else "a reason that is empty or long"
        return REFUSED, odd, str(error)
    except Exception as error:
        return REFUSED, f"{type(error).__name__} in the {where}: {error}"[:200], ""


def _refused_by_server(content):
    from fracture_mae.serving import models, requests
    from fracture_mae.serving.limits import Limits
    from fracture_mae.serving.refusals import BadRequest

    body = json.dumps({"dataframe_records": [{"image": base64.b64encode(content).decode()}]}).encode()
    try:
        asked = requests.read(body, "application/json", Limits())
        models._pixels(asked.cells, _NETWORK, Limits())
    except BadRequest as error:
        return error.message
    return ""


def other_than_pillows(content, grey):
    """What is odd about a picture that was read, "" where Pillow reads the same, or nothing."""
    if is_dicom(content[:SIGNATURE]) or _is_unknown_to_pillow(content):
        return ""
    try:
        expected = pictures.pillows_reading(content)
        with Image.open(io.BytesIO(content)) as header:
            deep = header.mode[0] in "IF"
        expected = to_grey_levels(expected) if deep else expected
    except Exception:
        return ""
    alike = pictures.likeness(grey, expected)
    is_same = (
        grey.shape == expected.shape and np.abs(grey - expected).max() <= 1
    )  # of hardly any levels: rounding alone
    return "" if alike > _ALIKE or is_same else f"read otherwise than by Pillow, correlation {alike:.2f}"


def _is_unknown_to_pillow(content):
    """Whether it is a TIFF of more than 8 bits of whose kind Pillow reads some wrongly: signed, in planes, or with white as 0."""
    if not content.startswith(tiff.STARTS):
        return False
    with tiff.first_page(content) as page:
        known = page.numbers in ("integers of 16 bits", "floating point numbers of 32 bits")
        return page.is_deep and not (known and page.colours == "MINISBLACK")


def _work(first, folder, minutes, said):
    """Damaged files, one after the other; tells of each how it went."""
    warnings.simplefilter("ignore")
    current, number = folder / "current", first
    current.touch()
    whole = next(iter(pictures.read().values()))
    for where in _WHERE:  # what is imported on the way takes longer than any file
        look(whole, current, where)

    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        name, content = damage.file(number)
        current.write_bytes(content)
        start = time.monotonic()
        outcome, odd, reason = look(content, current, _WHERE[number % len(_WHERE)])
        said.send((name, outcome, odd, reason, time.monotonic() - start, content if odd else b""))
        number += 1
    said.send(None)


class Found:
    """What a run found, by kind of file."""

    def __init__(self, folder):
        self.folder, self.counts, self.slowest = folder, defaultdict(Counter), (0.0, "")
        self.reasons, self.odd = Counter(), Counter()

    def add(self, name, outcome, odd, reason, seconds, content):
        kind = damage.kind_of(name)
        self.counts[kind][outcome] += 1
        self.reasons[reason.partition("(")[0].strip()] += bool(reason)
        if seconds > self.slowest[0]:
            self.slowest = seconds, name
        if seconds > LONGEST and not odd:
            odd, content = f"{seconds:.1f} s", (self.folder / "current").read_bytes()
        if odd:
            self.keep(name, odd, content)

    def keep(self, name, odd, content):
        self.counts[damage.kind_of(name)]["odd"] += 1
        self.odd[odd[:60]] += 1
        file = self.folder / f"{hashlib.sha256(content).hexdigest()[:12]}.bin"
        file.write_bytes(content)
        with open(self.folder / "found.txt", "a", encoding="utf-8") as listed:
            listed.write(f"{file.name}\t{name}\t{odd}\n")

    def tell(self):
        total = sum(self.counts.values(), Counter())
        for kind, counts in (*sorted(self.counts.items()), ("all", total)):
            n = counts[READ] + counts[REFUSED] + counts["ended"] + counts["hung"]
            parts = ", ".join(f"{counts[name]:,} {name}" for name in (READ, REFUSED, "ended", "hung", "odd"))
            click.echo(f"{kind:12s} {n:7,} files: {parts}")
        click.echo(f"{len(damage.wholes())} whole files; the slowest took {self.slowest[0]:.2f} s ({self.slowest[1]})")
        for odd, n in self.odd.most_common():
            click.echo(f"odd, {n:,} times: {odd}")
        return not self.odd


@click.command(help=__doc__.splitlines()[0])
@click.option("--minutes", default=5.0, show_default=True)
@click.option("--seed", "first", default=0, show_default=True, help="of the first file; another one makes other files")
@click.option("--folder", default="found", show_default=True, type=click.Path(path_type=Path))
def main(minutes, first, folder):
    folder.mkdir(parents=True, exist_ok=True)
    found, until = Found(folder), time.monotonic() + 60 * minutes
    context, left = multiprocessing.get_context("spawn"), minutes
    while left > 0:
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(first, folder, left, there), daemon=True)
        worker.start()
        there.close()
        how = _listen(here, found)
        worker.kill()
        worker.join()
        if how:  # the file that is being looked at ended it
            content = (folder / "current").read_bytes()
            found.counts["ENDED"][how] += 1
            found.keep("ended", how, content)
        first, left = first + 10**6, (until - time.monotonic()) / 60 if how else 0
    raise SystemExit(0 if found.tell() else 1)


def _listen(here, found):
    """Until the worker is done, "", or has ended or hangs."""
    patience = 60.0  # until it has made its files
    while True:
        try:
            if not here.poll(patience):
                return "hung"
            said = here.recv()
        except EOFError:
            return "ended"
        if said is None:
            return ""
        found.add(*said)
        patience = _UNTIL_ENDED


if __name__ == "__main__":
    main()
