"""Folding the batch norms of a frozen network into its convolutions: the same answers in less time."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .wrapper import Classifier, device_of


def fold_batch_norms(classifier: Classifier) -> Classifier:
    """A copy with its batch norms folded into the convolutions before them; identities take their place.

    With fixed statistics a batch norm is a linear map of each channel. It is folded if its parent registers it right
    after a convolution with as many channels, whose weight is not computed, as by weight_norm. A network may run its
    modules in another order than it registers them: if the copy's logits for two noise images differ by more than 1e-4
    of the largest one, the classifier itself is returned, as is a `BlackBox`. Not for a network that will be trained or
    randomised afterwards.
    """
    if not isinstance(classifier, Classifier):
        return classifier
    # the answers to noise; where a weight is computed, as by weight_norm, it can then be copied
    noise = torch.rand(2, 3, *classifier.input_size, generator=torch.Generator().manual_seed(0))
    noise = noise.to(device_of(classifier))
    with torch.no_grad():
        wanted = classifier(noise)
    # fold in a copy
    folded = copy.deepcopy(classifier).own()
    for parent in folded.model.modules():
        for (name, first), (after, second) in pairwise(list(parent.named_children())):
            follows = type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d
            if (
                follows
                and "weight" in first._parameters
                and first.out_channels == second.num_features
                and second.track_running_stats
            ):
                setattr(parent, name, fuse_conv_bn_eval(first, second))
                setattr(parent, after, nn.Identity())
    # compare the answers
    with torch.no_grad():
        found = folded(noise)
    return folded if (found - wanted).abs().max() <= 1e-4 * wanted.abs().max() else classifier


def fold_graph(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """Fold the batch norms of a traced network in eval mode, in place; returns what was replaced, by name.

    A batch norm is folded if all that it gets is a convolution's answer that nothing else uses, and both are called
    once: then the answers are the same up to rounding, whatever the images.
    """
    called = [(node, graph.get_submodule(node.target)) for node in graph.graph.nodes if node.op == "call_module"]
    modules, times, replaced = dict(called), Counter(module for _, module in called), {}
    for node, norm in called:
        before = node.args[0] if node.args else None
        conv = modules.get(before)
        if (
            type(norm) is nn.BatchNorm2d
            and type(conv) is nn.Conv2d
            and norm.track_running_stats
            and "weight" in conv._parameters  # not computed
            and len(before.users) == times[conv] == times[norm] == 1
        ):
            replaced |= {before.target: conv, node.target: norm}
            graph.set_submodule(before.target, fuse_conv_bn_eval(conv, norm))
            graph.set_submodule(node.target, nn.Identity().eval())
    return replaced
