"""A network is data, layer by layer: what its layers are, which tensors it has, how each family's config says it."""
