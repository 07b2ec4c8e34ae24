"""The rules about recipes and training logs, by their codes."""

from __future__ import annotations

from archsearch.diagnosis.rule import Measured, Rule

_RULES = "studies/rules/ablations.csv"
_LONGER = "studies/rules/ablations-8-epochs.csv"
_RECIPE = "studies/recipes/ablations.csv"
_GOH = 'Goh, "Why Momentum Really Works", Distill 2017, doi:10.23915/distill.00006'
_JORDAN = 'Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv 2404.00498'

TRAINING_RULES: dict[str, Rule] = {
    # Of a recipe
    "few-steps": Rule(
        "recipe",
        "error",
        "steps that are too few or too short to arrive anywhere",
        "Weights go as far as the learning rates of all steps add up to, and momentum m makes "
        "that 1 / (1 - m) times as far. Momentum 0 at a rate that is meant for 0.9 takes ten "
        "times as many epochs.",
        _GOH,
    ),
    "long-steps": Rule(
        "recipe",
        "note",
        "steps that are likely to throw the weights out",
        "Above some step size the loss rises rather than falls.",
        _GOH,
    ),
    "flat-schedule": Rule(
        "recipe",
        "warning",
        "a learning rate that never decays, or only after the end",
        "At a high rate the weights jump about the place where they should settle; most of the "
        "accuracy comes as the rate goes to 0.",
        'Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv 1608.03983',
        Measured(-6.64, _RULES, "flat-schedule"),
    ),
    "large-batch": Rule(
        "recipe",
        "warning",
        "batches that leave few steps",
        "An epoch has as many steps as batches; in a short run, steps are what is short.",
        'Keskar et al., "On Large-Batch Training", ICLR 2017, arXiv 1609.04836',
        Measured(-1.41, _RECIPE, "batch 512"),
    ),
    "sgd-alone": Rule(
        "recipe",
        "warning",
        "kernels moved by plain or Adam's gradients",
        "Muon makes a kernel's update orthogonal, so that all its directions learn at once.",
        _JORDAN + '; Jordan, "Muon", 2024',
        Measured(-2.61, _RECIPE, "sgd for every layer, not muon"),
    ),
    "default-start": Rule(
        "recipe",
        "warning",
        "weights that begin as PyTorch begins them",
        "Few epochs are mostly spent on finding edges and on passing the image through; both can "
        "be there from the start.",
        _JORDAN,
        Measured(-0.89, _RECIPE, "no identity-like start"),
    ),
    "decayed-norms": Rule(
        "recipe",
        "note",
        "weight decay on norms and biases",
        "Decay keeps kernels small so that their steps stay large; a norm's scale and a bias have "
        "no such reason.",
        'He et al., "Bag of Tricks", CVPR 2019, arXiv 1812.01187, section 3.1',
        Measured(-0.54, _RULES, "decayed-norms"),
    ),
    "no-weight-decay": Rule(
        "recipe",
        "note",
        "no weight decay",
        "Under a norm a kernel's size does not matter to its output, but divides its steps.",
        'Van Laarhoven, "L2 Regularization versus Batch and Weight Normalization", 2017, arXiv '
        "1706.05350",
    ),
    "no-augmentation": Rule(
        "recipe",
        "warning",
        "images that are neither flipped nor moved",
        "Within some epochs the very same images are learned by heart.",
        'Shorten, Khoshgoftaar, "A Survey on Image Data Augmentation", J. Big Data 6, 2019',
        Measured(-1.61, _LONGER, "no-augmentation"),
    ),
    "heavy-augmentation": Rule(
        "recipe",
        "warning",
        "many kinds of augmentation in a short run of a small network",
        "Each kind makes the task harder than the one that is scored; that pays where a network "
        "would overfit, which a small one in few epochs does not.",
        'Steiner et al., "How to train your ViT?", TMLR 2022, arXiv 2106.10270: for small models '
        "augmentation and regularisation hurt",
        Measured(-3.49, _RULES, "heavy-augmentation"),
    ),
    "stops-at-target": Rule(
        "recipe",
        "warning",
        "a run that ends as soon as its target is reached",
        "Accuracy rises most as the learning rate goes to 0, and it never gets there; the epoch "
        "that stops is a lucky one, too, chosen by the images that score it.",
        'Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv 1608.03983',
        Measured(-7.12, _RULES, "stops-at-target"),
    ),
    # Of a history
    "diverged": Rule(
        "history",
        "error",
        "a loss that left the numbers, an accuracy of guessing, or one that was lost again",
        "Nothing was learned, or it was thrown away.",
        _GOH,
    ),
    "scored-on-training": Rule(
        "history",
        "error",
        "accuracies that only 50,000 images can have",
        "The scored images are the training images: the figure says how well they are known by "
        "heart.",
        "CIFAR-10 has 50,000 training images and 10,000 test images",
    ),
    "underfits": Rule(
        "history",
        "warning",
        "a training accuracy that is low, and close to the scored one",
        "Regularising (dropout, weight decay, augmentation) narrows a gap that is not there; what "
        "is missing is capacity, steps, or a network that can learn.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 11',
    ),
    "overfits": Rule(
        "history",
        "warning",
        "a training accuracy far above the scored one",
        "The training images are learned by heart.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 11',
    ),
    "plateau": Rule(
        "history",
        "note",
        "a last third without gain",
        "Its epochs were spent for nothing.",
        'Goodfellow, Bengio, Courville, "Deep Learning", MIT Press 2016, chapter 11',
    ),
    "never-decayed": Rule(
        "history",
        "warning",
        "a learning rate that is high to the end",
        "See flat-schedule.",
        'Loshchilov, Hutter, "SGDR", ICLR 2017, arXiv 1608.03983',
    ),
}
