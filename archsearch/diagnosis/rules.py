"""Every rule by its code: what it is about, how grave, why, and where that is known from."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""error: a limit is broken, or training cannot work; warning: costs accuracy; note: to know."""
Subject = Literal["network", "recipe", "history"]
SUBJECTS: tuple[Subject, ...] = ("network", "recipe", "history")


class Measured(NamedTuple):
    """What an ablation on CIFAR-10 found.

    Attributes:
        points: of hold-out accuracy, with it minus without it, its mean over seeds.
        csv: where the trainings are kept.
        variant: its name there.
    """

    points: float
    csv: str
    variant: str


class Rule(NamedTuple):
    """A rule.

    Attributes:
        what: it looks for.
        why: that costs accuracy.
        source: of the why.
        measured: where the cost was measured; None where none is claimed or it goes without.
    """

    subject: Subject
    level: Level
    what: str
    why: str
    source: str
    measured: Measured | None = None


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
_LONGER = "studies/rules/ablations-8-epochs.csv"
_RECIPE = "studies/recipes/ablations.csv"
_GOH = 'Goh, "Why Momentum Really Works", Distill 2017, doi:10.23915/distill.00006'
_JORDAN = 'Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv 2404.00498'

_error, _warning, _note = (partial(Rule, "network", level) for level in LEVELS)
_OF_NETWORKS: dict[str, Rule] = {
    "over-limit": _error(
        "a limit that the network breaks, and the fewest edits that were found to keep all",
        "It would be rejected: too many parameters or MACs, too short a receptive field, or a "
        "part that the brief asks for is missing.",
        "the brief; archsearch schema constraints",
    ),
    "linear-network": _error(
        "no activation anywhere",
        "Convolutions, norms (at inference) and average pools are linear, and linear maps in a "
        "row are one linear map: the network is a linear classifier of pixels, whatever its "
        "depth. On CIFAR-10 those get about 40%.",
        "studies/seeds/era-s9, where that happened",
    ),
    "no-activation": _note(
        "two convolutions without an activation (or max pool) between",
        "Two linear maps in a row are one: the first costs parameters and MACs, and adds no "
        "function that the second could not be. Left alone: the parts of a depthwise-separable "
        "convolution, linear bottlenecks, and what a residual adds up.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 6',
        Measured(0.22, _RULES, "no-activation"),
    ),
    "no-norm": _warning(
        "a convolution without a norm after it",
        "Without a norm the scale of a layer's output drifts with its weights, and with it the "
        "step that the next layers need; high learning rates, which few epochs need, diverge.",
        _BATCH_NORM,
        Measured(-1.09, _RULES, "no-norm"),
    ),
    "skipped-cells": _warning(
        "a stride that passes over cells of its map: a 1x1 kernel with stride 2, or a kernel that "
        "is dilated by its stride",
        "A 1x1 kernel with stride 2 reads one cell in four; the layer before it computed the "
        "other three for nothing. A kernel as wide as the stride, or wider, reads them all.",
        'He et al., "Bag of Tricks for Image Classification", CVPR 2019, 1812.01187',
        Measured(-1.53, _RULES, "skipped-cells"),
    ),
    "padded-pointwise": _note(
        "padding around a 1x1 kernel",
        "Its border cells see no pixel of the image: they hold the bias alone, yet count in batch "
        "statistics and in the mean of global pooling, and the map grows.",
        _PIXELS,
        Measured(-0.41, _RULES, "padded-pointwise"),
    ),
    "padding-kernel": _warning(
        "a kernel most of whose taps fall on padding",
        "On a map of 2x2 cells a 3x3 kernel has four taps inside at most: its other weights are "
        "trained on zeros or hardly at all, and count as parameters all the same.",
        _RICHTER,
        Measured(-2.67, _RULES, "padding-kernel"),
    ),
    "depthwise-on-image": _warning(
        "a depthwise convolution on the image",
        "Depthwise kernels look at red, green and blue apart, one filter each: three filters in "
        "all, where a full first convolution has dozens of oriented edges and colour blobs.",
        'Chollet, "Xception", CVPR 2017, arXiv 1610.02357: two full convolutions come first',
        Measured(-2.46, _RULES, "depthwise-on-image"),
    ),
    "bottleneck": _warning(
        "channels cut to half or less and widened again, outside of a residual",
        "What does not fit through the narrow map is gone for all layers after it. Where a "
        "residual carries the wide map past it, that is another matter.",
        'Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, arXiv 1512.00567: '
        "avoid representational bottlenecks",
        Measured(-3.45, _RULES, "bottleneck"),
    ),
    "activation-on-logits": _warning(
        "an activation after the last convolution or linear layer",
        "The loss needs logits of both signs. ReLU cuts the negative ones off: classes cannot be "
        "told to be unlikely, and a logit at 0 gets no gradient.",
        "torch.nn.CrossEntropyLoss: input is expected to contain unnormalized logits",
        Measured(-4.78, _RULES, "activation-on-logits"),
    ),
    "norm-on-logits": _note(
        "a norm after the last convolution or linear layer",
        "It gives every class the same spread over a batch, and an image's logits in training "
        "depend on the others in its batch. In a short training it cost nothing.",
        _BATCH_NORM,
        Measured(1.27, _RULES, "norm-on-logits"),
    ),
    "dropout-on-logits": _note(
        "dropout after the last convolution or linear layer",
        "It sets logits to 0 at random, the right class's too: noise in the loss rather than in "
        "features, with nothing behind it to make up for it.",
        'Srivastava et al., "Dropout", JMLR 15, 2014: applied to hidden units and inputs',
        Measured(-0.25, _RULES, "dropout-on-logits"),
    ),
    "max-pool-head": _warning(
        "a maximum over the whole map, where a mean would do",
        "One cell a channel gets the gradient, so training is slower, and one bright spot decides "
        "where the mean would weigh the whole image.",
        'Lin, Chen, Yan, "Network In Network", ICLR 2014, arXiv 1312.4400',
        Measured(-1.83, _RULES, "max-pool-head"),
    ),
    "flatten-head": _note(
        "a map that is flattened rather than averaged",
        "The layer after it has weights for every place, most of a small network's budget, and "
        "learns an object anew in each.",
        'Lin, Chen, Yan, "Network In Network", ICLR 2014, arXiv 1312.4400',
    ),
    "dropout": _warning(
        "dropout in a network under a million parameters",
        "A small network on 50,000 images underfits before it overfits; what dropout takes away "
        "is capacity that it lacks already.",
        'Srivastava et al., "Dropout", JMLR 15, 2014, section 7: wider layers are needed with it',
        Measured(-2.35, _RULES, "dropout"),
    ),
    "gridding": _note(
        "dilated kernels in a row that never see some pixels",
        "Kernels dilated alike see a grid of every other cell: neighbours are never compared.",
        'Wang et al., "Understanding Convolution for Semantic Segmentation", WACV 2018, arXiv '
        "1702.08502",
    ),
    "idle-dilation": _note(
        "dilation of a 1x1 kernel",
        "It has one tap, and dilation sets taps apart: nothing is dilated, though a brief that "
        "asks for dilation may seem to be met.",
        _ARAUJO,
    ),
    "dead-weights": _note(
        "kernel weights that meet nothing but padding, wherever the kernel is",
        "They count as parameters and compute nothing.",
        _PIXELS,
    ),
    "blind-cells": _note(
        "cells that see no pixel of the image",
        "They hold padding's echo, and count in norms and pools all the same.",
        _PIXELS,
    ),
    "unproductive-layers": _note(
        "a receptive field that covers the image before the last layers: it grew too early, and "
        "they work on a map smaller than their field",
        "Layers whose input sees the whole image already have no context left to add, and have "
        "been measured to add little accuracy.",
        _RICHTER,
    ),
    "early-downsampling": _note(
        "a map shrunk by four or more within two convolutions",
        "What small kernels would have told apart is averaged away before they see it; it saves "
        "time, as those layers are the dearest.",
        'Iandola et al., "SqueezeNet", 2016, arXiv 1602.07360: downsample late',
    ),
    "late-downsampling": _note(
        "a map that stays large to the end",
        "The receptive field grows by the pixels between cells: without strides, slowly, and each "
        "layer costs four times what it would a stride later.",
        _ARAUJO,
    ),
    "single-cell-map": _note(
        "kernels wider than one on a map of one cell",
        "All but one of their taps meet padding.",
        _PIXELS,
    ),
    "off-centre": _note(
        "a map whose cells look past the image's centre",
        "Even kernels and unequal paddings add up, and one border is seen less than the other.",
        _ARAUJO,
    ),
    "misaligned-branches": _note(
        "branches whose cells look at different places",
        "A sum of them mixes neighbours.",
        _ARAUJO,
    ),
    "not-followed": _note(
        "an image too large to follow its pixels one by one",
        "Rules about single pixels were not checked.",
        _PIXELS,
    ),
}

_error, _warning, _note = (partial(Rule, "recipe", level) for level in LEVELS)
_OF_RECIPES: dict[str, Rule] = {
    "few-steps": _error(
        "steps that are too few or too short to arrive anywhere",
        "Weights go as far as the learning rates of all steps add up to, and momentum m makes "
        "that 1 / (1 - m) times as far. Momentum 0 at a rate that is meant for 0.9 takes ten "
        "times as many epochs.",
        _GOH,
    ),
    "long-steps": _note(
        "steps that are likely to throw the weights out",
        "Above some step size the loss rises rather than falls.",
        _GOH,
    ),
    "flat-schedule": _warning(
        "a learning rate that never decays, or only after the end",
        "At a high rate the weights jump about the place where they should settle; most of the "
        "accuracy comes as the rate goes to 0.",
        'Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv 1608.03983',
        Measured(-6.64, _RULES, "flat-schedule"),
    ),
    "large-batch": _warning(
        "batches that leave few steps",
        "An epoch has as many steps as batches; in a short run, steps are what is short.",
        'Keskar et al., "On Large-Batch Training", ICLR 2017, arXiv 1609.04836',
        Measured(-1.41, _RECIPE, "batch 512"),
    ),
    "sgd-alone": _warning(
        "kernels moved by plain or Adam's gradients",
        "Muon makes a kernel's update orthogonal, so that all its directions learn at once.",
        _JORDAN + '; Jordan, "Muon", 2024',
        Measured(-2.61, _RECIPE, "sgd for every layer, not muon"),
    ),
    "default-start": _warning(
        "weights that begin as PyTorch begins them",
        "Few epochs are mostly spent on finding edges and on passing the image through; both can "
        "be there from the start.",
        _JORDAN,
        Measured(-0.89, _RECIPE, "no identity-like start"),
    ),
    "decayed-norms": _note(
        "weight decay on norms and biases",
        "Decay keeps kernels small so that their steps stay large; a norm's scale and a bias have "
        "no such reason.",
        'He et al., "Bag of Tricks", CVPR 2019, arXiv 1812.01187, section 3.1',
        Measured(-0.54, _RULES, "decayed-norms"),
    ),
    "no-weight-decay": _note(
        "no weight decay",
        "Under a norm a kernel's size does not matter to its output, but divides its steps.",
        'Van Laarhoven, "L2 Regularization versus Batch and Weight Normalization", 2017, arXiv '
        "1706.05350",
    ),
    "no-augmentation": _warning(
        "images that are neither flipped nor moved",
        "Within some epochs the very same images are learned by heart.",
        'Shorten, Khoshgoftaar, "A Survey on Image Data Augmentation", J. Big Data 6, 2019',
        Measured(-1.61, _LONGER, "no-augmentation"),
    ),
    "heavy-augmentation": _warning(
        "many kinds of augmentation in a short run of a small network",
        "Each kind makes the task harder than the one that is scored; that pays where a network "
        "would overfit, which a small one in few epochs does not.",
        'Steiner et al., "How to train your ViT?", TMLR 2022, arXiv 2106.10270: for small models '
        "augmentation and regularisation hurt",
        Measured(-3.49, _RULES, "heavy-augmentation"),
    ),
    "stops-at-target": _warning(
        "a run that ends as soon as its target is reached",
        "Accuracy rises most as the learning rate goes to 0, and it never gets there; the epoch "
        "that stops is a lucky one, too, chosen by the images that score it.",
        'Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv 1608.03983',
        Measured(-7.12, _RULES, "stops-at-target"),
    ),
}

_error, _warning, _note = (partial(Rule, "history", level) for level in LEVELS)
_OF_HISTORIES: dict[str, Rule] = {
    "diverged": _error(
        "a loss that became NaN or infinite, an accuracy of guessing, or one that was lost again",
        "Nothing was learned, or it was thrown away.",
        _GOH,
    ),
    "scored-at-guessing": _error(
        "images that were learned, while those that are scored are guessed",
        "Overfitting leaves far more than guessing. The scored images are normalized in another "
        "way, their labels do not belong to them, or the norms' running statistics were never "
        "updated or not loaded.",
        _BATCH_NORM,
    ),
    "scored-on-training": _error(
        "accuracies that only 50,000 images can have",
        "The scored images are the training images: the figure says how well they are known by "
        "heart.",
        "CIFAR-10 has 50,000 training images and 10,000 test images",
    ),
    "stepped-per-epoch": _error(
        "a schedule that is counted in batches, but was stepped once per epoch",
        "It gets through a small part of its steps: a warm-up never reaches the peak, or the "
        "learning rate never decays.",
        "torch.optim.lr_scheduler.OneCycleLR: step should be called after every batch",
    ),
    "unlike-recipe": _warning(
        "learning rates that are not those of the recipe",
        "What the recipe leads to expect is not what was trained: another recipe was used, or its "
        "schedule was not carried out.",
        _GOH,
    ),
    "guessing-at-high-lr": _warning(
        "most of a run at guessing, until the learning rate has come down",
        "The steps were too long to learn anything, and the epochs before are lost.",
        _GOH,
    ),
    "underfits": _warning(
        "a training accuracy that is low, and close to the scored one",
        "Regularising (dropout, weight decay, augmentation) narrows a gap that is not there; what "
        "is missing is capacity, steps, or a network that can learn.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 11',
    ),
    "overfits": _warning(
        "a training accuracy far above the scored one",
        "The training images are learned by heart.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 11',
    ),
    "plateau": _note(
        "a last third without gain",
        "Its epochs were spent for nothing.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 11',
    ),
    "never-decayed": _warning(
        "a learning rate that is high to the end",
        "See flat-schedule.",
        'Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv 1608.03983',
    ),
}

RULES = _OF_NETWORKS | _OF_RECIPES | _OF_HISTORIES
