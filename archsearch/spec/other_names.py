"""What layers and their fields are called elsewhere, for the suggestions of error messages."""

from __future__ import annotations


def _all(names: str, meant: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), meant)


OPS = {
    **_all("convolution cnn", "'conv'"),
    **_all("dw dwconv depthwise depthwiseconv", "'conv' with groups 'depthwise'"),
    **_all("separable separableconv sepconv dwsep dsconv dwsepconv", "'depthwise_separable'"),
    **_all("pool pooling maxpooling", "'max_pool'"),
    **_all("averagepool avgpooling averagepooling meanpool", "'avg_pool'"),
    **_all("gap globalpool globalaveragepool globalavgpooling", "'global_avg_pool'"),
    **_all("globalaveragepooling adaptiveavgpool", "'global_avg_pool'"),
    **_all("dense fc fullyconnected lazylinear", "'linear'"),
    **_all("skip shortcut add resblock residualblock basicblock", "'residual'"),
    **_all("concat concatenate cat branches inception", "'parallel'"),
    **_all("se seblock selayer squeezeexcitation", "'squeeze_excite'"),
    **_all("bn batchnorm batchnormalization", "'norm' with kind 'batch'"),
    **_all("gn groupnorm groupnormalization", "'norm' with kind 'group'"),
    **_all("ln layernorm layernormalization", "'norm' with kind 'layer'"),
    **_all("relu", "'activation' with kind 'relu'"),
    **_all("gelu", "'activation' with kind 'gelu'"),
    **_all("silu swish", "'activation' with kind 'silu'"),
    **_all("hardswish hswish", "'activation' with kind 'hardswish'"),
    **_all("leakyrelu", "'activation' with kind 'leaky_relu'"),
    **_all("spatialdropout", "'dropout' with kind 'channel'"),
}
"""By a name without case, separators and dimension (BatchNorm2d: batchnorm)."""

_LAYER = {
    **_all(
        "in_channels in_features num_features input_shape",
        "it follows from the previous layer: remove it",
    ),
}
CONV = {
    **_LAYER,
    **_all("filters channels features out out_features", "out_channels"),
    **_all("kernel size k", "kernel_size"),
    **_all("strides s", "stride"),
    **_all("dilations dilation_rate rate d", "dilation"),
    **_all("bn batch_norm batchnorm", "norm"),
    **_all("act relu", "activation"),
    **_all("p drop dropout_rate", "dropout"),
}
POOL = {**_LAYER, **_all("kernel size k pool_size", "kernel_size"), **_all("strides s", "stride")}
LINEAR = {**_LAYER, **_all("out_channels units features classes out", "out_features")}
RESIDUAL = {**_LAYER, **_all("layers", "body")}
PARALLEL = {**_LAYER, **_all("layers paths", "branches")}
SQUEEZE_EXCITE = {**_LAYER, **_all("ratio", "reduction")}
NORM = {**_LAYER, **_all("norm", "kind")}
ACTIVATION = {**_LAYER, **_all("activation", "kind")}
DROPOUT = {**_LAYER, **_all("dropout rate prob probability", "p"), **_all("dropout_kind", "kind")}
OTHER = _LAYER
"""Keys of the layers that have no names of their own here."""
