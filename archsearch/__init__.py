"""Find small convolutional networks within hard limits: validate, search, train, review."""

__version__ = "0.1.0"
