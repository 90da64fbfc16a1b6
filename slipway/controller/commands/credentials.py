"""Verbs for keys, users and secrets. What they change is at every door within a second."""

from __future__ import annotations

from slipway.spec.access import Caller
from slipway.spec.resources import Key, Secret, User


class CredentialCommands:
    async def keys(self) -> list[Key]:
        raise NotImplementedError

    async def create_key(self, name: str, *, scopes: list[str], expires_at: float | None = None, caller: Caller) -> Key:
        """`secret` of the answer is the whole key, told this once."""
        raise NotImplementedError

    async def rotate_key(self, key_id: str, *, overlap_s: float = 0.0, caller: Caller) -> Key:
        """A new key with the name and scopes of the old, which works for `overlap_s` more seconds."""
        raise NotImplementedError

    async def revoke_key(self, key_id: str, *, caller: Caller) -> Key:
        raise NotImplementedError

    async def users(self) -> list[User]:
        raise NotImplementedError

    async def put_user(self, name: str, *, password: str, scopes: list[str], caller: Caller) -> User:
        raise NotImplementedError

    async def delete_user(self, name: str, *, caller: Caller) -> None:
        raise NotImplementedError

    async def secrets(self) -> list[Secret]:
        raise NotImplementedError

    async def put_secret(self, name: str, *, value: str, caller: Caller) -> Secret:
        raise NotImplementedError

    async def delete_secret(self, name: str, *, caller: Caller) -> None:
        """Raises Conflict naming the deployments that use it."""
        raise NotImplementedError
