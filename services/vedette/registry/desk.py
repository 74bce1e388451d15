"""The parts of the registry that both protocols call.

Rule: `http.py` and `rpc.py` reach the domain through a `Desk` and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from vedette.ports.artifacts import ArtifactStore
from vedette.registry.baselines import Baselines
from vedette.registry.deployments import Deployments
from vedette.registry.imports import Imports
from vedette.registry.models import Models
from vedette.registry.replicas import Replicas
from vedette.registry.uploads import Uploads
from vedette.registry.watch import Watch


@dataclass(frozen=True, slots=True)
class Desk:
    """What a request can ask for."""

    models: Models
    uploads: Uploads
    imports: Imports
    deployments: Deployments
    replicas: Replicas
    watch: Watch
    artifacts: ArtifactStore
    baselines: Baselines
