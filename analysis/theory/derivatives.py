"""The gradient of a loss at each image, and products with the Hessian, which is never formed."""

# Shapes: I images, E rows of a batch (images, or an image several times); dimension 0 of every input is the example.

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxup_smoothing.train.maxup import PerExampleLoss

#: Roundings of a float64 loss are taken to be at most this many units in the last place of the largest output.
_ROUNDINGS = 32 * torch.finfo(torch.float64).eps
# What autograd calls operations whose gradient jumps. A network with one of them is judged by another standard.
_KINKED = (
    *("Relu", "LeakyRelu", "Prelu", "Rrelu", "Hardtanh", "Hardsigmoid", "Hardswish", "Threshold", "Abs", "Clamp"),
    *(
        "MaxPool",
        "AdaptiveMaxPool",
        "Maximum",
        "Minimum",
        "Amax",
        "Amin",
        "Max",
        "Min",
        "Sort",
        "TopK",
        "Round",
        "Floor",
    ),
)
_SMOOTH = ("Elu", "Celu", "Selu")


@dataclass(frozen=True, kw_only=True)
class Derivatives:
    """The loss L around each image, to second order; float64, on the CPU.

    Attributes:
        loss_I: L.
        gradient_I: g, (I, …), the shape of the images.
        norm_I: |g|.
        along_I: The curvature along the gradient, g'Hg / |g|^2; 0 where the gradient is.
        trace_I: tr H, by Hutchinson's estimator.
        trace_error_I: Its standard error.
        frobenius_I: |H|_F, the root of the mean of |Hv|^2 over the same probes v.
        rounding_I: A loss in float64 is off by about this much.
    """

    loss_I: Tensor
    gradient_I: Tensor
    norm_I: Tensor
    along_I: Tensor
    trace_I: Tensor
    trace_error_I: Tensor
    frobenius_I: Tensor
    rounding_I: Tensor

    def curvature_I(self, second_moment: float) -> Tensor:
        """(I,): tr H + (E[M_m^2] - 1) g'Hg / |g|^2, twice the coefficient of sigma^2 in the law."""
        return self.trace_I + (second_moment - 1) * self.along_I


def cross_entropy(logits_EK: Tensor, y_E: Tensor) -> Tensor:
    """(E,) cross-entropy of each row."""
    return F.cross_entropy(logits_EK, y_E, reduction="none")


def frozen(model: nn.Module) -> nn.Module:
    """A copy in float64 and evaluation mode whose parameters take no gradient."""
    return copy.deepcopy(model).double().eval().requires_grad_(False)


def derivatives_at(
    model: nn.Module,
    per_example_loss: PerExampleLoss,
    x_I: Tensor,
    y_I: Tensor,
    *,
    probes: int,
    generator: torch.Generator,
    rows: int = 256,
) -> Derivatives:
    """Gradients and curvatures of the loss at each image.

    Cost: about 4 passes forward and backward an image, and as many again for every two probes.

    Args:
        model: As ``frozen`` returns it.
        per_example_loss: From the model's output and the targets to one loss an example.
        x_I: Images, float64.
        y_I: Targets.
        probes: Vectors of random signs for the trace, at least 2.
        generator: Draws them.
        rows: Images in a batch.

    Raises:
        ValueError: If there are fewer than 2 probes, or a loss or gradient is not finite.

    References:
        Hutchinson (1990), A stochastic estimator of the trace of the influence matrix; Pearlmutter (1994), Fast exact
        multiplication by the Hessian.
    """
    if probes < 2:
        raise ValueError(f"probes must be at least 2, got {probes}.")
    parts = [
        _of_batch(model, per_example_loss, x_E, y_E, probes, generator)
        for x_E, y_E in zip(x_I.split(rows), y_I.split(rows), strict=True)
    ]
    joined = [torch.cat(column) for column in zip(*parts, strict=True)]
    found = Derivatives(
        loss_I=joined[0],
        gradient_I=joined[1],
        norm_I=joined[2],
        along_I=joined[3],
        trace_I=joined[4],
        trace_error_I=joined[5],
        frobenius_I=joined[6],
        rounding_I=joined[7],
    )
    if not bool((found.loss_I.isfinite() & found.norm_I.isfinite() & found.trace_I.isfinite()).all()):
        raise ValueError("the loss or a derivative of it is not finite at some image; the law says nothing there.")
    return found


def hessian_products(
    model: nn.Module, per_example_loss: PerExampleLoss, x_E: Tensor, y_E: Tensor
) -> "tuple[Tensor, HessianProduct]":
    """Gradients, the shape of ``x_E``, and a function from one vector an example to Hv and v'Hv."""
    x_E = x_E.detach().requires_grad_(True)
    (gradient_E,) = torch.autograd.grad(per_example_loss(model(x_E), y_E).sum(), x_E, create_graph=True)
    return gradient_E.detach(), HessianProduct(x_E, gradient_E)


@dataclass(frozen=True)
class HessianProduct:
    """Products of each example's Hessian with a vector: the gradient of the gradient's inner product with it."""

    x_E: Tensor
    gradient_E: Tensor

    def __call__(self, v_E: Tensor) -> tuple[Tensor, Tensor]:
        """Hv, the shape of ``v_E``, and v'Hv, (E,)."""
        if not self.gradient_E.requires_grad:  # a loss that is linear in its input
            return torch.zeros_like(v_E), v_E.new_zeros(len(v_E))
        inner = (self.gradient_E * v_E).sum()
        (product_E,) = torch.autograd.grad(inner, self.x_E, retain_graph=True, materialize_grads=True)
        return product_E, dot(product_E, v_E)


def dot(a_E: Tensor, b_E: Tensor) -> Tensor:
    """(E,): the inner product of each example of ``a_E`` with that of ``b_E``."""
    return (a_E * b_E).flatten(1).sum(1)


def gradient_norms(
    model: nn.Module, per_example_loss: PerExampleLoss, x_I: Tensor, y_I: Tensor, *, rows: int = 256
) -> Tensor:
    """(I,): |g| at each image."""
    parts = []
    for x_E, y_E in zip(x_I.split(rows), y_I.split(rows), strict=True):
        x_E = x_E.detach().requires_grad_(True)
        (gradient_E,) = torch.autograd.grad(per_example_loss(model(x_E), y_E).sum(), x_E)
        parts.append(gradient_E.flatten(1).norm(dim=1))
    return torch.cat(parts)


def kinks(model: nn.Module, per_example_loss: PerExampleLoss, x_I: Tensor, y_I: Tensor) -> tuple[str, ...]:
    """Operations between input and loss whose gradient jumps, as autograd names them; none for a smooth network."""
    loss_E = per_example_loss(model(x_I[:1].detach().requires_grad_(True)), y_I[:1])
    names = {node.name().removesuffix("0").removesuffix("Backward") for node in _graph(loss_E.grad_fn)}
    return tuple(sorted(name for name in names if name.startswith(_KINKED) and not name.startswith(_SMOOTH)))


def corners(
    model: nn.Module,
    per_example_loss: PerExampleLoss,
    x_I: Tensor,
    y_I: Tensor,
    norm_I: Tensor,
    *,
    generator: torch.Generator,
    step: float = 1e-7,
    directions: int = 8,
) -> Tensor:
    """(I,): how far the loss is from having a gradient at each image itself, where 0 is a gradient.

    The largest |L(x + hv) + L(x - hv) - 2 L(x)| / (2 h |g|) over some directions v: of order h where there is a
    gradient, and of order 1 in a corner, such as a tie between the four pixels of a max pooling, which any image with
    an even background has. There the law holds for no sigma.

    Args:
        model: As ``frozen`` returns it.
        per_example_loss: From the model's output and the targets to one loss an example.
        x_I: Images, float64.
        y_I: Targets.
        norm_I: |g|.
        generator: Draws the directions, which are standard normal.
        step: h, so small that no kink near an image is taken for one in it.
        directions: How many.
    """
    found_I = torch.zeros(len(x_I), dtype=x_I.dtype)
    with torch.no_grad():
        loss_I = per_example_loss(model(x_I), y_I)
        for _ in range(directions):
            v_I = step * torch.empty_like(x_I).normal_(generator=generator)
            both_I = per_example_loss(model(x_I + v_I), y_I) + per_example_loss(model(x_I - v_I), y_I)
            bend_I = (both_I - 2 * loss_I).abs() / (2 * step * norm_I)
            found_I = torch.maximum(found_I, bend_I.nan_to_num(0, 0))  # where the gradient is 0 nothing is said
    return found_I


def _of_batch(
    model: nn.Module,
    per_example_loss: PerExampleLoss,
    x_E: Tensor,
    y_E: Tensor,
    probes: int,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    with torch.no_grad():
        output_E = model(x_E)
        loss_E = per_example_loss(output_E, y_E)
    gradient_E, product = hessian_products(model, per_example_loss, x_E, y_E)
    square_E = dot(gradient_E, gradient_E)
    _, forms_E = product(gradient_E)
    along_E = torch.where(square_E > 0, forms_E / torch.where(square_E > 0, square_E, 1), 0)
    traces, squares = [], []
    for _ in range(probes):
        v_E = torch.randint(2, x_E.shape, generator=generator, device=x_E.device).to(x_E.dtype) * 2 - 1
        product_E, form_E = product(v_E)
        traces.append(form_E)
        squares.append(dot(product_E, product_E))
    trace_PE = torch.stack(traces)
    found = (
        loss_E,
        gradient_E,
        square_E.sqrt(),
        along_E,
        trace_PE.mean(0),
        trace_PE.std(0) / probes**0.5,
        torch.stack(squares).mean(0).sqrt(),
        _ROUNDINGS * (output_E.flatten(1).abs().amax(1) + loss_E.abs()),
    )
    return tuple(tensor.detach().cpu() for tensor in found)


def _graph(root: torch.autograd.graph.Node | None) -> Iterator[torch.autograd.graph.Node]:
    seen, queue = set[torch.autograd.graph.Node](), [root] if root is not None else []
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        queue += [parent for parent, _ in node.next_functions if parent is not None]
