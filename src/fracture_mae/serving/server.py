"""MLflow's scoring server, made to read and refuse requests as this project does.

That server reads the body of a request whole, reads a table from it, drops parameters that it does not know, and shows a stack trace
where a table cannot be read, all before a model is asked. It has no setting for any of this, so that a model which it loads replaces
its function for requests to `/invocations`, and lets its application see no larger body than the limits allow.
"""

import asyncio
import io
import logging
import os
from collections import deque
from typing import Any

import pandas as pd
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server

from fracture_mae.serving import requests
from fracture_mae.serving.cells import found
from fracture_mae.serving.limits import Limits, exceeded
from fracture_mae.serving.refusals import BadRequest, TooLarge, refuse

_PATH = "/invocations"
_DISCARDED = (
    16  # times the limit, which are read of a body that is too large, so that its sender gets to read the answer
)
_logger = logging.getLogger(__name__)


class _TooSlow(BadRequest):
    status = 408


def is_serving() -> bool:
    """Whether this process is a scoring server, which loads its model."""
    return scoring_server._SERVER_MODEL_PATH in os.environ


def install(limits: Limits) -> None:
    """Make the scoring server that is about to start in this process heed `limits`, and answer as `answer` does."""
    import fastapi

    scoring_server.invocations = lambda body, content_type, model, _: answer(body, content_type, model, limits)

    class LimitedApplication(fastapi.FastAPI):
        async def __call__(self, scope, receive, send) -> None:
            try:
                receive = await _limited(scope, receive, limits.max_bytes)
            except BadRequest as error:
                await _send(send, error)
            else:
                await super().__call__(scope, receive, send)

    fastapi.FastAPI = LimitedApplication


def answer(
    body: bytes, content_type: str | None, model: PyFuncModel, limits: Limits
) -> scoring_server.InvocationsResponse:
    """The answer to a request, or an `MlflowException` that the scoring server makes one of, without a stack trace."""
    try:
        request = requests.read(body, content_type, limits)
        schema = model.metadata.get_params_schema()
        known = {param.name: param.dtype.to_python() for param in schema.params} if schema else {}
        params = requests.check_params(request.params, known)
        table = pd.DataFrame({requests.IMAGE: pd.Series(request.cells, dtype=object)})
        said = io.StringIO()
        scoring_server.predictions_to_json(model.predict(table, params=params), said)
        return scoring_server.InvocationsResponse(said.getvalue(), 200, "application/json")
    except BadRequest:
        raise
    except Exception as error:
        _logger.exception("a request could not be answered")
        raise MlflowException(f"the server failed ({type(error).__name__}); its log says more") from None


async def _limited(scope: dict, receive: Any, max_bytes: int) -> Any:
    """`receive` of a request whose body was read, and is no larger than allowed; of all else as it was."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != _PATH:
        return receive
    if scope["query_string"]:
        behind = found(scope["query_string"].decode("latin-1"))
        raise refuse(f"found {behind} behind the address: parameters belong into the body", with_example=True)
    timeout = MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()
    try:
        messages = await asyncio.wait_for(_read(receive, max_bytes), timeout)
    except TimeoutError:
        raise refuse(f"the body did not arrive within {timeout} s", _TooSlow) from None

    async def replayed() -> dict:
        return messages.popleft() if messages else await receive()

    return replayed


async def _read(receive: Any, max_bytes: int) -> deque[dict]:
    messages, n_bytes, more = deque(), 0, True
    while more and n_bytes <= _DISCARDED * max_bytes:
        message = await receive()
        n_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)
        messages.append(message)
        if n_bytes > max_bytes:
            messages.clear()
    if n_bytes > max_bytes:
        raise refuse(exceeded("max_bytes", f"{n_bytes:,} bytes", max_bytes), TooLarge)
    return messages


async def _send(send: Any, error: BadRequest) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": error.get_http_status_code(), "headers": headers})
    await send({"type": "http.response.body", "body": error.serialize_as_json().encode()})
