"""Every verb that a person, or a person's program, may say to the controller: what the management API calls."""

from __future__ import annotations

from slipway.controller.commands.artifacts import ArtifactCommands
from slipway.controller.commands.credentials import CredentialCommands
from slipway.controller.commands.deploying import DeployCommands
from slipway.controller.commands.reading import ReadingCommands


class Commands(DeployCommands, ReadingCommands, CredentialCommands, ArtifactCommands):
    """Who may say what is for the API to check; what can be done is checked here. Verbs that change something raise
    NotLeader on a controller that stands by, and StoreUnavailable while the database cannot be reached."""
