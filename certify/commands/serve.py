"""``certify serve``: answers with a certificate over HTTP."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.data.runtime import console


def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Checkpoint, factory, file or name, as for `certify run`.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")] = 8000,
    sigma: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the noise.", show_default="what the checkpoint was trained with"),
    ] = None,
    radius: Annotated[
        float, typer.Option(help="l2 radius to prove where a request asks for none; 0 stops when the class is proved.")
    ] = 0.0,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Estimation samples of an answer, at most.")] = 10_000,
    alpha: Annotated[float, typer.Option(help="Probability that an answer is wrong, at most.")] = 0.001,
    deadline_ms: Annotated[
        int, typer.Option(min=1, max=600_000, help="Milliseconds from a request to its answer, at most.")
    ] = 5000,
    image_shape: Annotated[
        str | None,
        typer.Option(metavar="C,H,W", help="Shape of the network's images.", show_default="the checkpoint's"),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(min=2, help="Number of classes.", show_default="the checkpoint's, or its logits")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names, a line each.", show_default="the checkpoint's"),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PIXELS",
            help="Resize the shorter side of image files to this, and cut the network's size out of the centre.",
            show_default="other sizes are refused",
        ),
    ] = None,
    max_body: Annotated[int, typer.Option(min=1000, help="Bytes of a request, at most.")] = 8_000_000,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests at a time; more are told to come back.")] = 128,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in one forward pass.", show_default="128")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Cast the network to float32, bfloat16 or float16.", show_default="the model's own arithmetic"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the network runs: auto, cpu, cuda or cuda:N.")] = "auto",
    arch: Annotated[str | None, typer.Option(help="Architecture of another project's weights.")] = None,
    normalize: Annotated[str | None, typer.Option(help="Normalisation in front of the model.")] = None,
    weights: options.Weights = None,
    randomized: Annotated[
        bool,
        typer.Option("--randomized", help="The model draws its own random numbers, independently for every image."),
    ] = False,
) -> None:
    """Answer images over HTTP: a class and a certified radius for each request (docs/serve.md).

    POST an image file or a JSON array to /predict. Requests that wait share forward passes. The options --n, --alpha
    and --deadline-ms are what a request gets, and the most that it may ask for.
    """
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise ValueError(
            "certify serve needs FastAPI and uvicorn; install them with pip install 'maxup-smoothing[serve]'."
        )
    from maxup_smoothing.certify.runs import device as devices
    from maxup_smoothing.certify.serving import application, served, server
    from maxup_smoothing.certify.statistics.procedure import ProcedureSettings

    shape = arguments.integers("--image-shape", image_shape)
    if shape is not None and len(shape) != 3:
        raise ValueError(f"--image-shape must be three sizes, such as 3,32,32; got {image_shape!r}.")
    listener = server.listening(host, port)  # before the model: loading takes a while
    with listener:
        opened = served.opened(
            served.Wanted(
                model=model,
                device=devices.device(device),
                sigma=sigma,
                image_shape=None if shape is None else (shape[0], shape[1], shape[2]),
                num_classes=num_classes,
                classes=classes,
                resize=resize,
                batch_size=batch_size,
                dtype=dtype,
                randomized=randomized,
                arch=arch,
                normalize=normalize,
                weights=weights,
            )
        )
        limits = application.Limits(
            radius=radius, n=n, alpha=alpha, deadline_ms=deadline_ms, body=max_body, in_hand=max_requests
        )
        # Refuses settings with which every answer would be an abstention.
        ProcedureSettings(n0=1, n=n, alpha=alpha, procedure="anytime", radii=(radius,)).at(opened.smoothed.sigma)
        for note in opened.notes:
            print(console.one_line(f"note: {note}"), file=sys.stderr)
        if not server.is_local(listener):
            print(
                f"warning: everybody who reaches {server.url(listener)} may use it: there is no password and no "
                "encryption; put a proxy in front that has both",
                file=sys.stderr,
            )
        service = application.Service(opened, limits)
        sides = "x".join(map(str, opened.shape))
        print(
            console.one_line(
                f"serving {model} on {server.url(listener)} ({sides} images, {len(opened.classes)} classes, sigma "
                f"{opened.smoothed.sigma:g}); Ctrl-C stops"
            ),
            file=sys.stderr,
            flush=True,
        )
        server.serve(service, listener)
