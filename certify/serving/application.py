"""The application: paths, limits, and errors as sentences. The one module here that knows FastAPI."""

# Shapes: N copies; C channels, H height, W width.

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maxup_smoothing.certify.noise import PREDICTION
from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.serving.counters import Counters
from maxup_smoothing.certify.serving.desk import N0, Desk, Failed
from maxup_smoothing.certify.serving.requested import Reader, Refusal
from maxup_smoothing.certify.serving.served import Served

_PATHS = {"/", "/predict", "/noisy", "/healthz", "/metrics", "/model", "/openapi.json"}
PAGE = Path(__file__).with_name("page.html")
#: What the page may load: nothing from elsewhere.
_POLICY = (
    "default-src 'none'; img-src 'self' blob:; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_BODY_SECONDS = 30.0  # in which a body must have arrived
_DISCARDED = 64_000_000  # bytes of a refused body that are still read, so that its sender reads the refusal
_MOST_COPIES = 12


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost. The first four are also what a request gets that asks for nothing.

    Attributes:
        radius: Radius to be proved where a request names none.
        n: Estimation samples of an answer, at most.
        alpha: Probability that an answer is wrong, at most; requests may ask for less.
        deadline_ms: Milliseconds from a request to its answer, at most; one forward pass may come on top.
        body: Bytes of a request.
        in_hand: Requests at a time.
    """

    radius: float = 0.0
    n: int = 10_000
    alpha: float = 0.001
    deadline_ms: int = 5000
    body: int = 8_000_000
    in_hand: int = 128


class Service:
    """What the paths share: the desk, the limits, and the numbers of what was done.

    Args:
        served: What answers.
        limits: Of a request.

    Attributes:
        stopping: Whether new requests are refused, since the server is about to end.
    """

    def __init__(self, served: Served, limits: Limits) -> None:
        self.served, self.limits = served, limits
        self.counters = Counters()
        self.desk = Desk(served.smoothed, self.counters)
        self.in_hand, self.stopping = 0, False
        self._reader = Reader(served.shape, served.preprocessing)
        # One image is decoded at a time: Pillow's limits are set for the whole process, and memory stays bounded.
        self._decoder = ThreadPoolExecutor(1, "certify-decode")

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        self.desk.close()
        self._decoder.shutdown()

    async def image(self, request: Request) -> NDArray[Any]:
        """The image of a request.

        Raises:
            Refusal: If there is none, or it is too large.
        """
        body = await self._body(request)
        return await self._decoded(lambda: self._reader.image(body, request.headers.get("content-type", "")))

    async def _decoded(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._decoder, work)

    async def _body(self, request: Request) -> bytes:
        most = self.limits.body
        if (told := request.headers.get("content-length", "")).isdecimal() and int(told[:20]) > most:
            await discard(request)
            raise Refusal(413, f"The body has {told[:20]} bytes, at most {most} are taken; send a smaller image.")
        parts, size = [], 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > most:
                        parts.clear()
                        await discard(request)
                        raise Refusal(413, f"The body has more than {most} bytes; send a smaller image.")
        except TimeoutError:
            raise Refusal(408, f"The body did not arrive within {_BODY_SECONDS:g} seconds; send it again.") from None
        return b"".join(parts)

    @contextlib.asynccontextmanager
    async def place(self, request: Request) -> AsyncIterator[None]:
        """A place among the requests in hand.

        Raises:
            Refusal: If there is none.
        """
        if self.stopping or self.in_hand >= self.limits.in_hand:
            await discard(request)
        if self.stopping:
            raise Refusal(503, "The server is stopping; ask another one, or try again later.")
        if self.in_hand >= self.limits.in_hand:
            raise Refusal(
                429, f"{self.limits.in_hand} requests are in hand, the most at a time; try again in a second."
            )
        self.in_hand += 1
        try:
            yield
        finally:
            self.in_hand -= 1

    async def noisy_png(self, image_CHW: NDArray[Any], count: int) -> bytes:
        """Noisy copies of an image side by side, clipped to what a screen can show."""
        return await self._decoded(lambda: _noisy_png(image_CHW, count, self.served.smoothed.sigma))


async def discard(request: Request) -> None:
    """Read a body that is refused, up to a limit: who still sends when the connection ends does not read the reason."""
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    left = _DISCARDED
    with contextlib.suppress(TimeoutError, RuntimeError):  # of a stream that is read already
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                left -= len(part)
                if left < 0:
                    return


def _noisy_png(image_CHW: NDArray[Any], count: int, sigma: float) -> bytes:
    noise = noise_source("exact", sigma, secrets.randbits(64))
    pixels = image_CHW if image_CHW.dtype == np.uint8 else np.rint(image_CHW * 255).astype(np.uint8)
    x_NCHW = torch.empty((count, *pixels.shape))
    noise.fill(x_NCHW, torch.from_numpy(np.ascontiguousarray(pixels)), input_id=0, stage=PREDICTION, start=0)
    shown_NCHW = (x_NCHW.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    strip = np.concatenate(list(shown_NCHW), axis=2)
    strip = strip[:3] if len(strip) >= 3 else strip[:1]  # what a screen can show of more channels
    out = BytesIO()
    Image.fromarray(strip[0] if len(strip) == 1 else strip.transpose(1, 2, 0)).save(out, "PNG")
    return out.getvalue()


class _Counted:
    """Counts responses; not a middleware of functions, which copies every body."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app, self._counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "") if scope.get("path") in _PATHS else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counters.responded(path, message["status"])
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            await send(message)

        await self._app(scope, receive, counted)


def application(service: Service) -> FastAPI:
    """The paths of a service."""
    limits, served = service.limits, service.served

    class Asked(BaseModel):
        """Settings of one answer."""

        model_config = ConfigDict(extra="forbid")
        radius: float = Field(limits.radius, ge=0, allow_inf_nan=False, description="l2 radius to be proved")
        deadline_ms: int = Field(limits.deadline_ms, ge=1, le=limits.deadline_ms, description="time for the answer")
        n: int = Field(limits.n, ge=1, le=limits.n, description="estimation samples, at most")
        alpha: float = Field(limits.alpha, gt=0, le=limits.alpha, description="probability of a wrong answer, at most")

    class Copies(BaseModel):
        """How many noisy copies."""

        model_config = ConfigDict(extra="forbid")
        count: int = Field(4, ge=1, le=_MOST_COPIES, description="noisy copies")

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Certified answers",
        description="A class and a radius within which it cannot change, by randomized smoothing.",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        telemetry={"tracing": False},
    )
    app.add_middleware(_Counted, counters=service.counters)

    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        headers = {"retry-after": "1"} if refusal.status in (429, 503) else None
        return _error(refusal.status, refusal.sentence, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        await discard(request)
        return _error(422, " ".join(_told(one) for one in error.errors()))

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> Response:
        sentence = f"There is no such page or method ({error.detail}); the service is POST /predict."
        return _error(error.status_code, sentence, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return _error(400, "The connection ended before the body did; send it again.")

    @app.post("/predict")
    async def predict(request: Request, asked: Annotated[Asked, Query()]) -> Response:
        """Class and certified radius of an image: the body is an image file, or an array (C, H, W) as JSON."""
        begun = time.monotonic()
        async with service.place(request):
            try:
                sampling = served.smoothed.anytime_sampling(radius=asked.radius, n0=N0, n=asked.n, alpha=asked.alpha)
            except ValueError as error:
                await discard(request)
                raise Refusal(422, str(error)) from None
            image_CHW = await service.image(request)
            waiting = service.desk.ask(image_CHW, sampling, begun, asked.deadline_ms / 1000)
            try:
                found = await asyncio.wrap_future(waiting)
            except Failed as failure:
                return _error(500, f"The network cannot answer: {failure}")
        prepared = served.preprocessing is not None and "json" not in request.headers.get("content-type", "")
        told = served.answer(found, asked.model_dump(), prepared=prepared)
        return JSONResponse(told)

    @app.post("/noisy", response_class=Response)
    async def noisy(request: Request, asked: Annotated[Copies, Query()]) -> Response:
        """Noisy copies of an image side by side, as PNG: what the network sees, clipped to [0, 1]."""
        async with service.place(request):
            png = await service.noisy_png(await service.image(request), asked.count)
        return Response(png, media_type="image/png")

    @app.get("/healthz")
    async def healthz() -> Response:
        """200 while the service answers, 503 with a sentence while it does not."""
        if service.stopping:
            return _error(503, "The server is stopping.")
        if service.desk.failure is not None:
            return _error(503, f"The network cannot answer: {service.desk.failure}")
        return JSONResponse({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        """What the service has done, for Prometheus."""
        return PlainTextResponse(service.counters.text(service.in_hand), media_type="text/plain; version=0.0.4")

    @app.get("/model")
    async def model() -> Response:
        """What is served, and the settings of a request that asks for nothing."""
        usual = {"radius": limits.radius, "n": limits.n, "alpha": limits.alpha, "deadline_ms": limits.deadline_ms}
        return JSONResponse({**served.describe(), "settings": usual})

    @app.get("/", response_class=HTMLResponse)
    async def page() -> Response:
        """A page on which one drops an image."""
        return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"content-security-policy": _POLICY})

    return app


def _told(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"][1:])[:50]
    if error["type"] == "extra_forbidden":
        return f"There is no parameter {name!r}; remove it, or correct its name."
    return f"{name} was {str(error['input'])[:50]!r}: {error['msg']}."


def _error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)
