"""Models on disk, named by what is in them: verified, stored once, whole or not at all, gone when nobody needs them."""

from slipway.store.artifacts.artifact_store import ArtifactStore
from slipway.store.artifacts.fetch import Patience

__all__ = ["ArtifactStore", "Patience"]
