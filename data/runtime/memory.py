"""How allocators say that memory has run out, and the error that says so with its fix."""

import torch

#: What allocators say, apart from those that raise torch.OutOfMemoryError.
_SAID = (
    "can't allocate memory",  # torch on a CPU
    "not enough memory",  # the same on Windows
    "out of memory",  # CUDA and its libraries
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to allocate memory",  # onnxruntime
    "bad allocation",
    "bad_alloc",
)


class OutOfMemory(ValueError):
    """Memory ran out, and f takes no fewer rows at a time; the message has the fix."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or the one that it was raised from, says that memory has run out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, RuntimeError) or error.__cause__ is not None:
        said = f"{error} {error.__cause__ or ''}"
        return any(words in said for words in _SAID)
    return False
