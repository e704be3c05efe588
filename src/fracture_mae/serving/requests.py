"""The body of a request to its pictures and parameters, whichever form it has."""

import io
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fracture_mae.serving.cells import found
from fracture_mae.serving.limits import Limits, exceeded
from fracture_mae.serving.refusals import BadRequest, TooLarge, UnknownContent, refuse

IMAGE = "image"  # the column of the pictures
_FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
_PARAMS = "params"
_JSON, _CSV = "application/json", "text/csv"
_PARQUET = ("application/vnd.apache.parquet", "application/x-parquet", "application/parquet")
_FILES = ("image/", "application/octet-stream", "application/dicom")


@dataclass(frozen=True)
class Request:
    """What a client asks.

    Attributes:
        cells: of the column `image`, a row each, as they were sent.
        params: as they were sent.
    """

    cells: list[Any]
    params: Mapping[str, Any] = field(default_factory=dict)


def read(body: bytes, content_type: str | None, limits: Limits) -> Request:
    """A request of any form that the scoring server knows, or a picture file itself.

    Raises:
        BadRequest: 400, it cannot be read, with one that can; 413, it has too many rows; 415, no such content is read.
    """
    kind, _, options = (content_type or "").lower().partition(";")
    kind = kind.strip()
    if "charset=" in options and "utf-8" not in options.replace("utf8", "utf-8"):
        raise refuse(f"found {found(options.strip())}, expected UTF-8", UnknownContent, with_example=True)
    if kind == _JSON:
        request = _from_json(body)
    elif kind == _CSV:
        request = Request(_column(_parsed(lambda: _csv(body), "CSV")))
    elif kind in _PARQUET:
        request = Request(_column(_parsed(lambda: _parquet(body, limits), "Parquet")))
    elif kind.startswith(_FILES):
        request = Request([body])
    else:
        raise refuse(
            f"found Content-Type {found(content_type)}, expected {_JSON}, {_CSV}, {_PARQUET[0]} or a picture's, such as image/jpeg",
            UnknownContent,
            with_example=True,
        )
    _check_rows(len(request.cells), limits)
    return request


def check_params(params: Any, known: Mapping[str, type]) -> dict[str, float | bool | None]:
    """Values by their names; None, as if it were not there.

    Args:
        known: names, and of each float or bool.

    Raises:
        BadRequest: a name that is not known, or a value that is no number, or neither true nor false.
    """
    names = ", ".join(known) or "none"
    if params is None:
        return {}
    if not isinstance(params, Mapping):
        raise refuse(
            f'{_PARAMS}: found {found(params)}, expected an object such as {{"threshold": 0.5}} (known: {names})'
        )
    unknown = [name for name in params if name not in known]
    if unknown:
        raise refuse(
            f"{_PARAMS}: found {', '.join(found(name) for name in unknown)}, which this model does not know (known: {names})"
        )
    return {name: (_flag if known[name] is bool else _number)(name, value) for name, value in params.items()}


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise refuse(f"{name}: found {found(value)}, expected a number") from None


def _flag(name: str, value: Any) -> bool | None:
    if not isinstance(value, bool | None):
        raise refuse(f"{name}: found {found(value)}, expected true or false")
    return value


def image_column(table: pd.DataFrame) -> pd.Series:
    """Raises BadRequest: there is none, or more than one."""
    if list(table.columns).count(IMAGE) != 1:
        raise refuse(f"found {_listed(table.columns)}, expected a column {IMAGE}", with_example=True)
    return table[IMAGE]


def _column(table: pd.DataFrame) -> list[Any]:
    return image_column(table).tolist()


def _listed(names: Collection[Any]) -> str:
    shown = [found(name) for name in list(names)[:10]]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"the columns {', '.join(shown)}{more}" if shown else "no columns"


def _check_rows(n_rows: int, limits: Limits) -> None:
    if n_rows > limits.max_rows:
        raise refuse(f"{exceeded('max_rows', f'{n_rows:,} rows', limits.max_rows)}: send several requests", TooLarge)


def _from_json(body: bytes) -> Request:
    asked = _parsed(lambda: json.loads(body), "JSON")
    if not isinstance(asked, dict):
        raise refuse(f"found {found(asked)}, expected an object with one of {', '.join(_FORMS)}", with_example=True)
    forms = [name for name in asked if name in _FORMS]
    others = [name for name in asked if name not in (*_FORMS, _PARAMS)]
    if len(forms) != 1 or others:
        names = ", ".join(map(found, asked)) or "nothing"
        raise refuse(
            f"found {names}, expected one of {', '.join(_FORMS)}, and beside it only {_PARAMS}", with_example=True
        )
    return Request(_cells(forms[0], asked[forms[0]]), asked.get(_PARAMS))


def _cells(form: str, rows: Any) -> list[Any]:
    if form == "dataframe_split":
        return _of_split(rows)
    if form == "dataframe_records":
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise _wrong(form, rows, 'a list of rows {"image": …}')
        return _of_records(form, rows)
    return _of_tensors(form, rows)


def _of_split(rows: Any) -> list[Any]:
    form, expected = "dataframe_split", '{"columns": ["image"], "data": [[…], […]]}'
    if not isinstance(rows, dict) or not {"data"} <= set(rows) <= {"columns", "data", "index"}:
        raise _wrong(form, rows, expected)
    data, columns = rows["data"], rows.get("columns")
    if not isinstance(data, list) or not isinstance(columns, list):
        raise _wrong(form, rows, expected)
    if columns.count(IMAGE) != 1:
        raise refuse(f"{form}: found {_listed(columns)}, expected a column {IMAGE}", with_example=True)
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            of_each = f"expected a list of {len(columns)}, one for each column"
            raise refuse(f"row {number}: found {found(row)}, {of_each}", with_example=True)
    return [row[columns.index(IMAGE)] for row in data]


def _of_records(form: str, rows: list[dict]) -> list[Any]:
    for number, row in enumerate(rows):
        if IMAGE not in row:
            raise refuse(f"{form}, row {number}: found {_listed(row)}, expected a column {IMAGE}", with_example=True)
    return [row[IMAGE] for row in rows]


def _of_tensors(form: str, rows: Any) -> list[Any]:
    """`inputs` and `instances`: rows with names, columns with names, or pictures without any."""
    if _is_picture(rows):
        return [rows]
    if isinstance(rows, dict):
        if IMAGE not in rows:
            raise refuse(f"{form}: found {_listed(rows)}, expected a column {IMAGE}", with_example=True)
        column = rows[IMAGE]
        return column if isinstance(column, list) else [column]
    if not isinstance(rows, list):
        raise _wrong(form, rows, "a list of pictures")
    if any(isinstance(row, dict) and not _is_picture(row) for row in rows):
        if not all(isinstance(row, dict) for row in rows):
            raise _wrong(form, rows, "rows of one kind")
        return _of_records(form, rows)
    return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in rows]


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and set(value) == {"b64"})


def _wrong(form: str, rows: Any, expected: str) -> BadRequest:
    return refuse(f"{form}: found {found(rows)}, expected {expected}", with_example=True)


def _parsed(parse: Callable[[], Any], form: str) -> Any:
    """Whatever a parser raises at what a stranger sent is the stranger's mistake."""
    try:
        return parse()
    except BadRequest:
        raise
    except RecursionError:
        raise refuse(f"the body is no {form} that can be read: nested too deep", with_example=True) from None
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise refuse(f"the body is no {form} that can be read: {lines[0][:200]}", with_example=True) from None


def _csv(body: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(body), dtype=str, keep_default_na=False, encoding="utf-8-sig")


def _parquet(body: bytes, limits: Limits) -> pd.DataFrame:
    """Only the pictures, and only if they are no more, once unpacked, than may be sent at once."""
    from pyarrow.parquet import ParquetFile

    about = ParquetFile(io.BytesIO(body))
    names = about.schema_arrow.names
    if names.count(IMAGE) != 1:
        raise refuse(f"found {_listed(names)}, expected a column {IMAGE}", with_example=True)
    _check_rows(about.metadata.num_rows, limits)
    groups = [about.metadata.row_group(number) for number in range(about.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if unpacked > limits.max_bytes:
        raise refuse(exceeded("max_bytes", f"{unpacked:,} bytes, unpacked,", limits.max_bytes), TooLarge)
    # As a dictionary, in which a text of many rows stands once.
    return ParquetFile(io.BytesIO(body), read_dictionary=[IMAGE]).read(columns=[IMAGE]).to_pandas()
