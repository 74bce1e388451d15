"""ModelStreamInfer: many inferences on one stream, several under way at once, answered in order.

Rule: a request that fails is answered on the stream and ends nothing; at most `WINDOW` requests are held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from vedette.core.errors import VedetteError
from vedette.proto.inference.v1 import inference_pb2 as pb

WINDOW = 16
"""Requests of one stream that wait or run; more are left in the socket, so that flow control reaches the client."""

Infer = Callable[[pb.ModelInferRequest], Awaitable[pb.ModelInferResponse]]
_Answer = Callable[[pb.ModelInferRequest], Coroutine[Any, Any, pb.ModelStreamInferResponse]]
_Task = asyncio.Task[pb.ModelStreamInferResponse]


async def stream_answers(
    requests: AsyncIterator[pb.ModelInferRequest], infer: Infer, *, errors_end_stream: bool
) -> AsyncIterator[pb.ModelStreamInferResponse]:
    """One answer a request, in the order of the requests.

    `errors_end_stream`: the first failure is raised instead of being answered (Triton's `triton_grpc_error`).
    Leaving the iteration early cancels what is under way.
    """
    answer = _strict(infer) if errors_end_stream else _tolerant(infer)
    arrivals: asyncio.Queue[_Task | Exception | None] = asyncio.Queue(WINDOW)
    held: set[_Task] = set()
    reader = asyncio.create_task(_read(requests, answer, arrivals, held))
    try:
        while (arrival := await arrivals.get()) is not None:
            if isinstance(arrival, Exception):
                raise arrival
            yield await arrival
            held.discard(arrival)
    finally:
        reader.cancel()
        for task in held:
            task.cancel()
        await asyncio.gather(reader, *held, return_exceptions=True)


async def _read(
    requests: AsyncIterator[pb.ModelInferRequest],
    answer: _Answer,
    arrivals: asyncio.Queue[_Task | Exception | None],
    held: set[_Task],
) -> None:
    """Start a task a request; the queue's size holds the reader back. The last arrival is None or an error."""
    try:
        async for request in requests:
            task = asyncio.create_task(answer(request))
            held.add(task)
            await arrivals.put(task)
    except Exception as error:  # noqa: BLE001 - handed on: raised again by whoever takes the arrivals
        await arrivals.put(error)
    else:
        await arrivals.put(None)


def _strict(infer: Infer) -> _Answer:
    async def answer(request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        return _final(pb.ModelStreamInferResponse(infer_response=await infer(request)))

    return answer


def _tolerant(infer: Infer) -> _Answer:
    async def answer(request: pb.ModelInferRequest) -> pb.ModelStreamInferResponse:
        try:
            response = pb.ModelStreamInferResponse(infer_response=await infer(request))
        except VedetteError as error:
            failed = pb.ModelInferResponse(id=request.id)
            response = pb.ModelStreamInferResponse(error_message=error.message, infer_response=failed)
        return _final(response)

    return answer


def _final(response: pb.ModelStreamInferResponse) -> pb.ModelStreamInferResponse:
    """Each request has one answer, so each answer is its last: no empty one follows, whatever was enabled."""
    response.infer_response.parameters["triton_final_response"].bool_param = True
    return response
