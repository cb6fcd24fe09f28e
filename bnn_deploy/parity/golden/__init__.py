"""Golden bundles: what PyTorch made of some inputs, so that any machine can hold a runner to it without PyTorch."""
