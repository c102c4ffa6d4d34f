"""Where models and data come from: the catalogue, package registries, the hub, local folders; the cache."""
