"""The model registry: models, immutable versions, aliases, endpoints and their desired state."""
