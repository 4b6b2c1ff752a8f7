"""Gradients for an attack: the network behind the certified classifier, and the noises that its mean is taken over.

The network is not folded or compiled. What it returns may differ from f's logits by rounding, which no attack notices:
f itself judges an attack, in `certify.attack.judge`.
"""

# Shapes: B images, M noise copies, K classes.

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.models.contents import GIVEN, copied
from maxup_smoothing.certify.noise import ATTACK_GRADIENT
from maxup_smoothing.data.runtime.memory import is_out_of_memory
from maxup_smoothing.train.objectives.attacks import attacking, log_mean_probability
from maxup_smoothing.train.seeds import generator

_FIX = "attack the network that it was made from: a checkpoint, or a factory that returns an nn.Module"


class GradientNetwork(nn.Module):
    """A network in f's arithmetic as a function with gradients.

    In float16 small gradients underflow, so that network is taken in float32. The network is not a submodule: programs
    of ``torch.export`` refuse to be put into evaluation mode, in which they are already.

    Args:
        model: What f was made from.
        classifier: f.
        name: Of the model, for messages.

    Raises:
        ValueError: If it is not a network of torch.
    """

    def __init__(self, model: nn.Module, classifier: BaseClassifier, name: str) -> None:
        super().__init__()
        if isinstance(model, ArrayFunction):
            raise ValueError(f"{name} is a function of arrays (as of ONNX), which has no gradients; {_FIX}.")
        cast = classifier.dtype_name in ("float16", "float32")  # torch has few gradients of float16 on a CPU
        self.dtype = torch.float32 if cast else classifier.dtype
        self._layout = classifier.layout
        network, reason = copied(model)
        if network is None:
            raise ValueError(f"{name} cannot be copied ({reason}), and is not attacked itself; {_FIX}.")
        network = network.to(classifier.device)
        if classifier.dtype_name != GIVEN:
            network = network.to(self.dtype)
        network.requires_grad_(False)
        self._network = (network.to(memory_format=self._layout),)  # type: ignore[call-overload]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K), in f's arithmetic."""
        logits: Tensor = self._network[0](x_BCHW.to(self.dtype, memory_format=self._layout))
        return logits

    def require_gradients(self, x_BCHW: Tensor, sigma: float, name: str) -> None:
        """Refuse a network through which no gradient comes.

        Args:
            x_BCHW: Images in [0, 1] to try it on.
            sigma: Of the noise that is added to them.
            name: Of the model, for the message.

        Raises:
            ValueError: If torch cannot differentiate it, or all gradients are 0.
        """
        noise_BCHW = sigma * torch.randn(x_BCHW.shape, generator=generator(torch.device("cpu"), 0)).to(x_BCHW.device)
        try:
            with attacking(self):
                x_BCHW = x_BCHW.detach().requires_grad_(True)
                log_p_BK = log_mean_probability(self, x_BCHW, [noise_BCHW])
                (found_BCHW,) = torch.autograd.grad(log_p_BK.amin(1).sum(), x_BCHW)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ValueError(f"{name} has no gradients ({str(error).splitlines()[0][:120]}); {_FIX}.") from error
        if not bool(found_BCHW.ne(0).any()):
            raise ValueError(f"all gradients of {name} are 0, as of a function that rounds or counts; {_FIX}.")


def noises_of(
    images: Sequence[int], shape: Sequence[int], *, sigma: float, samples: int, seed: int, restart: int
) -> list[Tensor]:
    """M tensors of N(0, sigma^2), float32, (B, C, H, W): of each image a function of seed, image and restart alone.

    Args:
        images: Numbers of the B images in their data set.
        shape: (C, H, W).
        sigma: In [0, 1] pixel units.
        samples: M.
        seed: Of the attack.
        restart: Number of the attempt.
    """
    cpu = torch.device("cpu")
    noise_BMCHW = torch.stack(
        [
            torch.randn((samples, *shape), generator=generator(cpu, seed, ATTACK_GRADIENT, image, restart))
            for image in images
        ]
    )
    return list((sigma * noise_BMCHW).unbind(1))
