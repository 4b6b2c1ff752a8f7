"""What a request holds: an image file, or an array as JSON; both are strangers' bytes and are read up to limits."""

# Shapes: C channels, H height, W width.

from dataclasses import dataclass
from email.message import Message
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data.formats.picture import opened, prepared_pixels, stored_pixels
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.data.runtime import strict_json

_NAME = "the image of the request"
_HOW = (
    "send an image file with content-type image/png or image/jpeg, or an array of shape (C, H, W) with application/json"
)
_MOST_PIXELS = 4096 * 4096  # as of images on disk that are taken as they are
_FILES = ("application/octet-stream", "")


class Refusal(Exception):
    """A request that gets no answer.

    Args:
        status: Of HTTP.
        sentence: What was expected, what came, and what to do.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class _Upload(BytesIO):
    def __repr__(self) -> str:
        return "in these bytes"  # Pillow puts it into its messages


@dataclass(frozen=True)
class Reader:
    """Turns the body of a request into the image that the network takes.

    Attributes:
        shape: (C, H, W) of the network's images.
        preprocessing: What is done with image files; None takes files of exactly that size.
    """

    shape: tuple[int, int, int]
    preprocessing: Preprocessing | None = None

    def image(self, body: bytes, content_type: str) -> NDArray[Any]:
        """The image, uint8, or float64 in [0, 1]; (C, H, W). To be called by one thread at a time.

        Args:
            body: Of the request.
            content_type: Its header.

        Raises:
            Refusal: If there is none, or the network does not take it.
        """
        message = Message()
        message["content-type"] = content_type
        kind = message.get_content_type() if content_type else ""
        if kind == "multipart/form-data":
            body, kind = _only_part(body, str(message.get_param("boundary", "")))
        if not body:
            raise Refusal(400, f"The request has no body; {_HOW}.")
        if kind == "application/json":
            return self._from_json(body)
        if kind.startswith("image/") or kind in _FILES:
            return self._from_file(body)
        raise Refusal(415, f"The content-type is {kind[:100]!r}, which is not taken; {_HOW}.")

    def _from_file(self, body: bytes) -> NDArray[np.uint8]:
        _, height, width = self.shape
        try:
            with opened(_Upload(body), _NAME) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise Refusal(
                        422,
                        f"The image has {image.width}x{image.height} pixels, more than {_MOST_PIXELS}; shrink it.",
                    )
                if self.preprocessing is not None:
                    return prepared_pixels(image, _NAME, self.preprocessing)
                if image.size != (width, height):
                    raise Refusal(
                        422,
                        f"The image has {image.width}x{image.height} pixels, the network takes {width}x{height}; "
                        "resize it first, or start the server with --resize.",
                    )
                pixels = stored_pixels(image, _NAME)
        except ValueError as error:
            raise Refusal(422, _sentence(error)) from None
        return self._in_channels(pixels)

    def _in_channels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        channels = self.shape[0]
        if pixels.ndim == 2:
            if channels not in (1, 3):
                raise Refusal(422, f"The image is gray, the network takes {channels} channels; send an array as JSON.")
            return np.repeat(pixels[None], channels, axis=0)
        if channels == 1:
            if not (pixels == pixels[..., :1]).all():
                raise Refusal(422, "The image has colours, the network takes gray ones; convert it to gray first.")
            return np.ascontiguousarray(pixels[None, ..., 0])
        if channels != 3:
            raise Refusal(422, f"The image has 3 channels, the network takes {channels}; send an array as JSON.")
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _from_json(self, body: bytes) -> NDArray[Any]:
        try:
            told = strict_json.parse(body)
        except ValueError as error:
            raise Refusal(400, f"The body is not JSON ({str(error)[:200]}); {_HOW}.") from None
        dtype = None
        if isinstance(told, dict):
            if not {"image"} <= told.keys() <= {"image", "dtype"}:
                raise Refusal(422, 'The JSON must be an array, or {"image": array, "dtype": "uint8" or "float"}.')
            told, dtype = told["image"], told.get("dtype")
            if dtype not in (None, "uint8", "float"):
                raise Refusal(422, 'The dtype must be "uint8" or "float".')
        return _in_range(_numbers(told, self.shape), dtype)


def _numbers(told: Any, shape: tuple[int, int, int]) -> NDArray[Any]:
    """A nested list of numbers as an array of that shape; the list is looked at before NumPy makes room for it."""
    level = [told]
    for size in shape:
        if not all(type(part) is list and len(part) == size for part in level):
            raise Refusal(422, f"The array must be nested lists of shape (C, H, W) = {shape}; it has {_shape(told)}.")
        level = [one for part in level for one in part]
    if not all(type(one) in (int, float) for one in level):
        raise Refusal(422, f"The array must hold numbers alone, and be of shape (C, H, W) = {shape}.")
    found = np.array(level)
    if found.dtype.kind not in "iuf":
        raise Refusal(422, "The array holds whole numbers of more than 64 bits; pixels are from 0 to 255.")
    return found.reshape(shape)


def _shape(told: Any) -> str:
    """The shape that a nested list seems to have, by its first elements."""
    sizes = []
    while isinstance(told, list):
        sizes.append(len(told))
        told = told[0] if told else None
    return f"{tuple(sizes)} or another length inside" if sizes else "none"


def _in_range(found: NDArray[Any], dtype: str | None) -> NDArray[Any]:
    """Whole numbers as 8-bit pixels, others as they are; refused where they may be either."""
    lowest, highest, whole = float(found.min()), float(found.max()), found.dtype.kind in "iu"
    if dtype is None and whole and highest == 1:
        raise Refusal(
            422,
            "The array holds 0 and 1 alone: these may be 8-bit pixels or floats in [0, 1]; send "
            '{"image": array, "dtype": "uint8"} or "float".',
        )
    if dtype == "uint8" or (dtype is None and whole):
        if not whole or lowest < 0 or highest > 255:
            raise Refusal(422, f"8-bit pixels are whole numbers from 0 to 255, got {lowest:g} to {highest:g}.")
        return found.astype(np.uint8)
    if not (lowest >= 0 and highest <= 1):  # written so that nan fails
        raise Refusal(
            422, f"Floats must lie in [0, 1], got {lowest:g} to {highest:g}; divide by 255, or send whole numbers."
        )
    return found.astype(np.float64)


def _only_part(body: bytes, boundary: str) -> tuple[bytes, str]:
    """Content and content-type of a form's only field."""
    ascii_boundary = boundary.encode("ascii", "replace")
    parts = (b"\r\n" + body).split(b"\r\n--" + ascii_boundary) if boundary else []
    if len(parts) != 3 or not parts[2].startswith(b"--"):
        raise Refusal(400, "The form must have one field, the image file, and must be whole.")
    head, gap, content = parts[1].partition(b"\r\n\r\n")
    if not gap:
        raise Refusal(400, "The form's field has no content; send an image file in it.")
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n") if b":" in line)
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip()
    return content, kind


def _sentence(error: ValueError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
