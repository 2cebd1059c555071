"""Gradient methods through captum: integrated gradients and guided backpropagation.

Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017; Springenberg et al., "Striving for
Simplicity", ICLR workshop 2015. captum is imported where it is used, since it takes a while.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..classifiers.trunk import observable
from ..masking import normalise
from ..validation import check_at_least, check_request
from .base import Explain


def integrated_gradients(classifier: nn.Module, steps: int = 50, batch_size: int = 64) -> Explain:
    """Maps (B,H,W) in [0,1]: the magnitude of ``steps`` gradients, integrated on the way from black."""
    from captum.attr import IntegratedGradients

    check_at_least(1, steps=steps, batch_size=batch_size)
    method = IntegratedGradients(classifier)

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        check_request(classifier, pixels, targets)
        at_once = max(batch_size, len(pixels))
        with torch.enable_grad():
            found = method.attribute(pixels, target=targets, n_steps=steps, internal_batch_size=at_once)
        return normalise(found.detach().sum(1).abs())

    return explain


def guided_backprop(classifier: nn.Module) -> Explain:
    """Maps (B,H,W) in [0,1]: the gradient's magnitude, negative parts stopped at every nn.ReLU.

    A network without any ReLU, like most transformers, gets plain gradients: the method is not defined for it. Raises
    ValueError for a network whose ReLUs are all out of reach, functional or compiled ahead of time; warns if some are.
    """
    from captum.attr import GuidedBackprop

    method, guided = GuidedBackprop(classifier), Counter()
    guide = method._backward_hook

    def counted(*gradients):
        guided["ReLUs"] += 1
        return guide(*gradients)

    method._backward_hook = counted

    def explain(pixels: Tensor, targets: Tensor) -> Tensor:
        # count the ReLUs that are guided, and all that there are
        check_request(classifier, pixels, targets)
        nodes = Counter()
        guided.clear()
        hook = classifier.register_forward_hook(lambda _, __, logits: nodes.update(operations(logits)))
        try:
            with observable(classifier), torch.enable_grad(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")  # captum says so at every call
                found = method.attribute(pixels.detach().clone().requires_grad_(), target=targets)
        finally:
            hook.remove()
        _check_guided(guided["ReLUs"], nodes)
        return normalise(found.detach().abs().sum(1))

    return explain


def operations(logits: Tensor) -> Iterator[str]:
    """The names of all operations whose gradients lead to the logits."""
    todo, seen = [logits.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(before for before, _ in node.next_functions)
            yield node.name()


def _check_guided(guided: int, nodes: Counter) -> None:
    """Compare the ReLUs that were guided with those in the graph."""
    relus = sum(count for name, count in nodes.items() if name.startswith("ReluBackward"))
    remedy = "give a network whose ReLUs are nn.ReLU modules, or use integrated gradients"
    if any(name.startswith("CompiledFunction") for name in nodes):  # compiled ahead of time: nothing makes that eager
        reason = "the network is compiled, which hides its ReLUs: give the network as it was before"
        raise ValueError(f"guided backpropagation can't be done: {reason}")
    if relus and not guided:
        raise ValueError(f"guided backpropagation can't guide any of the {relus} ReLUs, which are functional: {remedy}")
    if relus > guided:
        warnings.warn(
            f"guided backpropagation guides {guided} of {relus} ReLUs, the others are functional: {remedy}",
            stacklevel=3,
        )
