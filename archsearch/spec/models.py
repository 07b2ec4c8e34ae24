"""What a user may write: a network, block by block.

Names and meanings are PyTorch's. Models are frozen and refuse unknown keys. What a spec means
(shapes, defaults that depend on shapes) is worked out in `network`, never here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from archsearch.common.problems import problems_in
from archsearch.errors import InputError
from archsearch.spec import other_names

MAX_CHANNELS = 1_000_000
MAX_PIXELS = 16_384
MAX_BLOCKS = 200

Channels = Annotated[int, Field(strict=True, ge=1, le=MAX_CHANNELS)]
Size = Annotated[int, Field(strict=True, ge=1, le=MAX_PIXELS)]
Amount = Annotated[int, Field(strict=True, ge=0, le=MAX_PIXELS)]
Probability = Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(min_length=1, max_length=200)]

SizePair = Size | tuple[Size, Size]
"""One value for both axes, or [height, width]."""
AmountPair = Amount | tuple[Amount, Amount]

NormKind = Literal["batch", "group", "layer"]
ActivationKind = Literal["relu", "gelu", "silu", "hardswish", "leaky_relu"]
DropoutKind = Literal["element", "channel"]


def _known_format(value: object) -> object:
    if isinstance(value, int) and value > 1:
        raise ValueError("1 (a newer version of archsearch wrote this; upgrade to read it)")
    return value


Format = Annotated[Literal[1], BeforeValidator(_known_format)]
"""The version of a file's format."""


def null_if_false(value: object) -> object:
    """TOML has no null, so there `false` says that something is left out or switched off."""
    return None if value is False else value


NormOrNone = Annotated[
    NormKind | None,
    BeforeValidator(null_if_false, json_schema_input_type=NormKind | Literal[False] | None),
]
ActivationOrNone = Annotated[
    ActivationKind | None,
    BeforeValidator(null_if_false, json_schema_input_type=ActivationKind | Literal[False] | None),
]
DEFAULT_NUM_GROUPS = 8


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass as _Explained
else:

    class _Explained(type(BaseModel)):
        """Lets a record that Python code makes report its problems as one that is read does."""

        def __call__(cls, *args: Any, **fields: Any) -> Any:
            try:
                return super().__call__(*args, **fields)
            except ValidationError as error:
                problems = problems_in(error, fields, cls)
            raise InputError(f"{cls.__name__}()", problems)


class Frozen(BaseModel, metaclass=_Explained):
    """A closed, immutable record.

    Attributes:
        other_keys: what to suggest for an unknown key: one of the record's own, or words.
        other_tags: what to suggest for an unknown tag (`op`) of the union that it is in.

    Raises:
        InputError: its fields are not what they must be; the error lists all problems.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    other_keys: ClassVar[Mapping[str, str]] = {}
    other_tags: ClassVar[Mapping[str, str]] = {}


class _Layer(Frozen):
    """What all layers share."""

    other_tags = other_names.OPS
    other_keys = other_names.OTHER


class _ConvFields(_Layer):
    """What `conv` and `depthwise_separable` share."""

    other_keys = other_names.CONV
    out_channels: Channels
    kernel_size: SizePair = 3
    stride: SizePair = 1
    padding: Literal["same", "valid"] | AmountPair = "same"
    dilation: SizePair = 1
    bias: Flag | None = None
    """null: a bias only where no norm follows."""
    norm: NormOrNone = "batch"
    num_groups: Channels = DEFAULT_NUM_GROUPS
    """Groups of `norm: "group"`; must divide the channels."""
    activation: ActivationOrNone = "relu"
    dropout: Probability = 0.0
    dropout_kind: DropoutKind = "element"
    order: Literal["norm_act", "act_norm"] = "norm_act"
    """Dropout comes last in both."""


class Conv(_ConvFields):
    """A 2-d convolution with its norm, activation and dropout."""

    op: Literal["conv"]
    groups: Literal["depthwise"] | Channels = 1


class DepthwiseSeparable(_ConvFields):
    """A depthwise convolution, then a pointwise one; norm and activation follow the second."""

    op: Literal["depthwise_separable"]
    depth_multiplier: Channels = 1
    mid_norm: NormKind | None = None
    mid_activation: ActivationKind | None = None
    pointwise_padding: AmountPair = 0


Convolution = Conv | DepthwiseSeparable


class _PoolFields(_Layer):
    other_keys = other_names.POOL
    kernel_size: SizePair = 2
    stride: SizePair | None = None
    """null: the kernel size."""
    padding: AmountPair = 0


class MaxPool(_PoolFields):
    """A maximum over windows."""

    op: Literal["max_pool"]


class AvgPool(_PoolFields):
    """A mean over windows; padding counts as zeros, as in PyTorch."""

    op: Literal["avg_pool"]


class GlobalAvgPool(_Layer):
    """The mean over the whole map: (C, H, W) to (C, 1, 1)."""

    op: Literal["global_avg_pool"]


class Linear(_Layer):
    """A fully connected layer, on flat features or a 1x1 map."""

    other_keys = other_names.LINEAR
    op: Literal["linear"]
    out_features: Channels
    bias: Flag = True
    activation: ActivationKind | None = None
    dropout: Probability = 0.0


class Residual(_Layer):
    """The body's output plus its input."""

    other_keys = other_names.RESIDUAL
    op: Literal["residual"]
    body: Annotated[tuple[Layer, ...], Field(min_length=1)]
    shortcut: Literal["auto"] = "auto"
    """Identity where shapes match, else a 1x1 conv with the body's stride and a batch norm."""
    activation: ActivationKind | None = None
    """After the sum."""


class Parallel(_Layer):
    """Branches side by side, merged; an empty branch is the identity."""

    other_keys = other_names.PARALLEL
    op: Literal["parallel"]
    branches: Annotated[tuple[tuple[Layer, ...], ...], Field(min_length=1, max_length=64)]
    merge: Literal["concat", "add"] = "concat"
    split: Flag = False
    """true: the channels are split evenly among the branches."""


class SqueezeExcite(_Layer):
    """Channel gates from the globally pooled map: C -> max(1, C // reduction) -> C."""

    other_keys = other_names.SQUEEZE_EXCITE
    op: Literal["squeeze_excite"]
    reduction: Channels = 4


class Norm(_Layer):
    """A normalisation layer on its own; `layer` is one group over (C, H, W)."""

    other_keys = other_names.NORM
    op: Literal["norm"]
    kind: NormKind = "batch"
    num_groups: Channels = DEFAULT_NUM_GROUPS


class Activation(_Layer):
    """An activation on its own."""

    other_keys = other_names.ACTIVATION
    op: Literal["activation"]
    kind: ActivationKind = "relu"


class Dropout(_Layer):
    """Dropout on its own."""

    other_keys = other_names.DROPOUT
    op: Literal["dropout"]
    p: Probability = 0.5
    kind: DropoutKind = "element"


class Flatten(_Layer):
    """(C, H, W) to (C * H * W,)."""

    op: Literal["flatten"]


Layer = Annotated[
    Conv
    | DepthwiseSeparable
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | Linear
    | Residual
    | Parallel
    | SqueezeExcite
    | Norm
    | Activation
    | Dropout
    | Flatten,
    Field(discriminator="op"),
]


class Block(Frozen):
    """A named run of layers."""

    name: Name
    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]


class Output(Frozen):
    """The layers that end in one logit a class."""

    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]


class Input(Frozen):
    """One image."""

    channels: Channels = 3
    height: Size = 32
    width: Size = 32

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


class Spec(Frozen):
    """A candidate network.

    Example:
        >>> import archsearch as asr
        >>> conv = {"op": "conv", "out_channels": 16}
        >>> head = [{"op": "global_avg_pool"}, {"op": "linear", "out_features": 10}]
        >>> spec = asr.Spec(
        ...     name="tiny",
        ...     blocks=[{"name": "conv1", "layers": [conv]}],
        ...     output={"layers": head},
        ... )
        >>> spec.blocks[0].layers[0].kernel_size
        3
    """

    format: Format = 1
    name: Name
    input: Input = Input()
    classes: Annotated[int, Field(strict=True, ge=2, le=MAX_CHANNELS)] = 10
    blocks: Annotated[tuple[Block, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    output: Output


def spec_text(spec: Spec) -> str:
    """Return a spec as a spec file, with the fields that its author (or the search) wrote."""
    return spec.model_dump_json(indent=2, exclude_unset=True) + "\n"
