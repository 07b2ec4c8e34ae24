"""The rules about networks, by their codes."""

from __future__ import annotations

from archsearch.diagnosis.rule import Measured, Rule

_PIXELS = "archsearch follows every cell's pixels: docs/analyzer.md"
_RULES = "studies/rules/ablations.csv"
_BATCH_NORM = 'Ioffe, Szegedy, "Batch Normalization", ICML 2015, arXiv 1502.03167'
_ARAUJO = (
    'Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill '
    "2019, doi:10.23915/distill.00021"
)
_RICHTER = (
    'Richter, Schöning, Wiedenroth, Krumnack, "Should You Go Deeper?", ICMLA 2021, arXiv 2106.12307'
)

NETWORK_RULES: dict[str, Rule] = {
    # Limits
    "over-limit": Rule(
        "network",
        "error",
        "a limit that the network breaks, and the fewest edits that were found to keep all",
        "It would be rejected: too many parameters or MACs, too short a receptive field, or a "
        "part that the brief asks for is missing.",
        "the brief; archsearch schema constraints",
    ),
    # Of a network
    "linear-network": Rule(
        "network",
        "error",
        "no activation anywhere",
        "Convolutions, norms (at inference) and average pools are linear, and linear maps in a "
        "row are one linear map: the network is a linear classifier of pixels, whatever its "
        "depth. On CIFAR-10 those get about 40%.",
        "studies/seeds/era-s9, where that happened",
    ),
    "no-activation": Rule(
        "network",
        "note",
        "two convolutions without an activation (or max pool) between",
        "Two linear maps in a row are one: the first costs parameters and MACs, and adds no "
        "function that the second could not be. Left alone: the parts of a depthwise-separable "
        "convolution, linear bottlenecks, and what a residual adds up.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 6',
        Measured(0.22, _RULES, "no-activation"),
    ),
    "no-norm": Rule(
        "network",
        "warning",
        "a convolution without a norm after it",
        "Without a norm the scale of a layer's output drifts with its weights, and with it the "
        "step that the next layers need; high learning rates, which few epochs need, diverge.",
        _BATCH_NORM,
        Measured(-1.09, _RULES, "no-norm"),
    ),
    "skipped-cells": Rule(
        "network",
        "warning",
        "a stride that passes over cells of its map: a 1x1 kernel with stride 2, or a kernel that "
        "is dilated by its stride",
        "A 1x1 kernel with stride 2 reads one cell in four; the layer before it computed the "
        "other three for nothing. A kernel as wide as the stride, or wider, reads them all.",
        'He et al., "Bag of Tricks for Image Classification", CVPR 2019, 1812.01187',
        Measured(-1.53, _RULES, "skipped-cells"),
    ),
    "padded-pointwise": Rule(
        "network",
        "note",
        "padding around a 1x1 kernel",
        "Its border cells see no pixel of the image: they hold the bias alone, yet count in batch "
        "statistics and in the mean of global pooling, and the map grows.",
        _PIXELS,
        Measured(-0.41, _RULES, "padded-pointwise"),
    ),
    "padding-kernel": Rule(
        "network",
        "warning",
        "a kernel most of whose taps fall on padding",
        "On a map of 2x2 cells a 3x3 kernel has four taps inside at most: its other weights are "
        "trained on zeros or hardly at all, and count as parameters all the same.",
        _RICHTER,
        Measured(-2.67, _RULES, "padding-kernel"),
    ),
    "depthwise-on-image": Rule(
        "network",
        "warning",
        "a depthwise convolution on the image",
        "Depthwise kernels look at red, green and blue apart, one filter each: three filters in "
        "all, where a full first convolution has dozens of oriented edges and colour blobs.",
        'Chollet, "Xception", CVPR 2017, arXiv 1610.02357: two full convolutions come first',
        Measured(-2.46, _RULES, "depthwise-on-image"),
    ),
    "bottleneck": Rule(
        "network",
        "warning",
        "channels cut to half or less and widened again, outside of a residual",
        "What does not fit through the narrow map is gone for all layers after it. Where a "
        "residual carries the wide map past it, that is another matter.",
        'Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, arXiv 1512.00567: '
        "avoid representational bottlenecks",
        Measured(-3.45, _RULES, "bottleneck"),
    ),
    "activation-on-logits": Rule(
        "network",
        "warning",
        "an activation after the last convolution or linear layer",
        "The loss needs logits of both signs. ReLU cuts the negative ones off: classes cannot be "
        "told to be unlikely, and a logit at 0 gets no gradient.",
        "torch.nn.CrossEntropyLoss: input is expected to contain unnormalized logits",
        Measured(-4.78, _RULES, "activation-on-logits"),
    ),
    "norm-on-logits": Rule(
        "network",
        "note",
        "a norm after the last convolution or linear layer",
        "It gives every class the same spread over a batch, and an image's logits in training "
        "depend on the others in its batch. In a short training it cost nothing.",
        _BATCH_NORM,
        Measured(1.27, _RULES, "norm-on-logits"),
    ),
    "dropout-on-logits": Rule(
        "network",
        "note",
        "dropout after the last convolution or linear layer",
        "It sets logits to 0 at random, the right class's too: noise in the loss rather than in "
        "features, with nothing behind it to make up for it.",
        'Srivastava et al., "Dropout", JMLR 15, 2014: applied to hidden units and inputs',
        Measured(-0.25, _RULES, "dropout-on-logits"),
    ),
    "max-pool-head": Rule(
        "network",
        "warning",
        "a maximum over the whole map, where a mean would do",
        "One cell a channel gets the gradient, so training is slower, and one bright spot decides "
        "where the mean would weigh the whole image.",
        'Lin, Chen, Yan, "Network In Network", ICLR 2014, arXiv 1312.4400',
        Measured(-1.83, _RULES, "max-pool-head"),
    ),
    "flatten-head": Rule(
        "network",
        "note",
        "a map that is flattened rather than averaged",
        "The layer after it has weights for every place, most of a small network's budget, and "
        "learns an object anew in each.",
        'Lin, Chen, Yan, "Network In Network", ICLR 2014, arXiv 1312.4400',
    ),
    "dropout": Rule(
        "network",
        "warning",
        "dropout in a network under a million parameters",
        "A small network on 50,000 images underfits before it overfits; what dropout takes away "
        "is capacity that it lacks already.",
        'Srivastava et al., "Dropout", JMLR 15, 2014, section 7: wider layers are needed with it',
        Measured(-2.35, _RULES, "dropout"),
    ),
    "gridding": Rule(
        "network",
        "note",
        "dilated kernels in a row that never see some pixels",
        "Kernels dilated alike see a grid of every other cell: neighbours are never compared.",
        'Wang et al., "Understanding Convolution for Semantic Segmentation", WACV 2018, arXiv '
        "1702.08502",
    ),
    "idle-dilation": Rule(
        "network",
        "note",
        "dilation of a 1x1 kernel",
        "It has one tap, and dilation sets taps apart: nothing is dilated, though a brief that "
        "asks for dilation may seem to be met.",
        _ARAUJO,
    ),
    "dead-weights": Rule(
        "network",
        "note",
        "kernel weights that meet nothing but padding, wherever the kernel is",
        "They count as parameters and compute nothing.",
        _PIXELS,
    ),
    "blind-cells": Rule(
        "network",
        "note",
        "cells that see no pixel of the image",
        "They hold padding's echo, and count in norms and pools all the same.",
        _PIXELS,
    ),
    "unproductive-layers": Rule(
        "network",
        "note",
        "a receptive field that covers the image before the last layers: it grew too early, and "
        "they work on a map smaller than their field",
        "Layers whose input sees the whole image already have no context left to add, and have "
        "been measured to add little accuracy.",
        _RICHTER,
    ),
    "early-downsampling": Rule(
        "network",
        "note",
        "a map shrunk by four or more within two convolutions",
        "What small kernels would have told apart is averaged away before they see it; it saves "
        "time, as those layers are the dearest.",
        'Iandola et al., "SqueezeNet", 2016, arXiv 1602.07360: downsample late',
    ),
    "late-downsampling": Rule(
        "network",
        "note",
        "a map that stays large to the end",
        "The receptive field grows by the pixels between cells: without strides, slowly, and each "
        "layer costs four times what it would a stride later.",
        _ARAUJO,
    ),
    "single-cell-map": Rule(
        "network",
        "note",
        "kernels wider than one on a map of one cell",
        "All but one of their taps meet padding.",
        _PIXELS,
    ),
    "off-centre": Rule(
        "network",
        "note",
        "a map whose cells look past the image's centre",
        "Even kernels and unequal paddings add up, and one border is seen less than the other.",
        _ARAUJO,
    ),
    "misaligned-branches": Rule(
        "network",
        "note",
        "branches whose cells look at different places",
        "A sum of them mixes neighbours.",
        _ARAUJO,
    ),
    "not-followed": Rule(
        "network",
        "note",
        "an image too large to follow its pixels one by one",
        "Rules about single pixels were not checked.",
        _PIXELS,
    ),
}
