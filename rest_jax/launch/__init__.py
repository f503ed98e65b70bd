"""Scripts and manifests that start runs elsewhere, rendered from settings."""
