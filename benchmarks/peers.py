"""What else counts a network's parameters: each asked as its README asks, on a fresh torch module.

One that cannot be imported or run raises whatever it raises.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from archsearch.convert.to_module import DepthwiseConv2d, build
from archsearch.spec.network import Network

IMAGE = (3, 32, 32)


def build_alone(networks: Sequence[Network]) -> list[int]:
    """The torch module, its parameters summed."""
    return [sum(p.numel() for p in built(network).parameters()) for network in networks]


def built(network: Network) -> nn.Module:
    """The module of a network, as it is at inference (one image has no batch statistics).

    Of torch's own classes alone: thop takes a subclass of nn.Conv2d to have no parameters.
    """
    net = build(network).eval()
    for module in net.modules():
        if isinstance(module, DepthwiseConv2d):
            object.__setattr__(module, "__class__", nn.Conv2d)
    return net


def by_torchinfo(networks: Sequence[Network]) -> list[int]:
    """torchinfo.summary."""
    from torchinfo import summary

    size = (1, *IMAGE)
    return [
        summary(built(network), input_size=size, verbose=0, device="cpu").total_params
        for network in networks
    ]


def by_fvcore(networks: Sequence[Network]) -> list[int]:
    """FlopCountAnalysis and parameter_count."""
    from fvcore.nn import FlopCountAnalysis, parameter_count

    counts = []
    for network in networks:
        net = built(network)
        flops = FlopCountAnalysis(net, torch.zeros(1, *IMAGE))
        flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
        counts.append(parameter_count(net)[""])
    return counts


def by_thop(networks: Sequence[Network]) -> list[int]:
    """thop.profile."""
    from thop import profile

    counts = []
    for network in networks:
        _macs, params = profile(built(network), inputs=(torch.zeros(1, *IMAGE),), verbose=False)
        counts.append(int(params))
    return counts


def by_ptflops(networks: Sequence[Network]) -> list[int]:
    """get_model_complexity_info."""
    from ptflops import get_model_complexity_info

    counts = []
    for network in networks:
        _macs, params = get_model_complexity_info(
            built(network), IMAGE, as_strings=False, print_per_layer_stat=False, verbose=False
        )
        counts.append(params)
    return counts


def by_torchscan(networks: Sequence[Network]) -> list[int]:
    """crawl_module; it gives multiply-accumulates, memory and receptive fields too."""
    from torchscan import crawl_module

    counts = []
    for network in networks:
        report = crawl_module(built(network), IMAGE)
        counts.append(int(report["totals"]["parameters"]["value"]))
    return counts
