"""cga_adapt: checkpoint and text in, sidecar out. Never needed to build or run cga; docs/adapt.md is the guide."""

__version__ = "0.1.0"
