"""Recipes, data sets, augmentation, the loop, checkpoints and evaluation."""
