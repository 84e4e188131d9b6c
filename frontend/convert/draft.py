"""An image config while a stage changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.values import replace

if TYPE_CHECKING:
    from builder.oci.image import History, ImageConfig


class ImageDraft:
    """A config whose lists can grow, so that a step costs the same however many were before it.

    ``image`` has the fields that do not grow; of those that do it has the values at the start, which count no more. ``labels`` is a
    mapping, ``ports`` and ``volumes`` are mappings whose keys count. ``history`` has what was added here.
    """

    __slots__ = ("_below", "_env", "_env_places", "history", "image", "labels", "onbuild", "ports", "volumes")

    def __init__(self, image: ImageConfig) -> None:
        config = image.config
        self.image = image
        self.labels = dict(config.labels)
        self.ports = dict.fromkeys(config.exposed_ports)
        self.volumes = dict.fromkeys(config.volumes)
        self.onbuild = list(config.onbuild)
        self.history: list[History] = list(image.history)
        self._below: tuple[ImageDraft, int] | None = None
        self._env = list(config.env)
        self._env_places: dict[str, int] = {}
        for place, entry in enumerate(config.env):
            self._env_places.setdefault(entry.partition("=")[0], place)

    def copy(self) -> ImageDraft:
        """One that a stage on this one can change."""
        made = ImageDraft.__new__(ImageDraft)
        made.image = self.image
        made.labels, made.ports, made.volumes = dict(self.labels), dict(self.ports), dict(self.volumes)
        made.onbuild, made.history = list(self.onbuild), []
        made._below = (self, len(self.history))  # no copy: stages in a row would have all lines of all those before them
        made._env, made._env_places = list(self._env), dict(self._env_places)
        return made

    def configure(self, **fields: Any) -> None:
        """Change fields of the container config that do not grow."""
        self.image = replace(self.image, config=replace(self.image.config, **fields))

    def set_env(self, name: str, value: str) -> None:
        """``Env`` with ``name`` set in its place (the first, if a base image has it twice), or at the end."""
        place = self._env_places.setdefault(name, len(self._env))
        self._env[place : place + 1] = [f"{name}={value}"]

    def has_env(self, name: str) -> bool:
        return name in self._env_places

    def variables(self) -> list[tuple[str, str]]:
        """``Env`` as pairs; a name without ``=`` has an empty value."""
        return [(name, value) for name, _, value in (entry.partition("=") for entry in self._env)]

    def finished(self) -> ImageConfig:
        """The config as it is now; labels, ports and volumes sorted."""
        config = replace(
            self.image.config,
            env=tuple(self._env),
            labels=tuple(sorted(self.labels.items())),
            exposed_ports=tuple(sorted(self.ports)),
            volumes=tuple(sorted(self.volumes)),
            onbuild=tuple(self.onbuild),
        )
        parts = [self.history]
        below = self._below
        while below is not None:
            draft, lines = below
            parts.append(draft.history[:lines])
            below = draft._below
        return replace(self.image, config=config, history=tuple(entry for part in reversed(parts) for entry in part))
