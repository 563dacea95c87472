"""Settings of retention: how long data is kept. `pandawn_server.config` has the other settings."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings

from pandawn_server.domain.retention import Kept


class RetentionSettings(BaseSettings):
    """Ages in days at which rows are deleted; see docs/operations.md."""

    task_retention_days: float = Field(
        default=180.0,
        ge=1,
        le=36500,
        description="age, since their last job ended, at which tasks are deleted with all their jobs",
    )
    event_retention_days: float = Field(
        default=30.0, gt=0, le=36500, description="age at which events are deleted"
    )
    audit_retention_days: float = Field(
        default=90.0, gt=0, le=36500, description="age at which audit records are deleted"
    )
    sandbox_retention_days: float = Field(
        default=14.0,
        ge=1,
        le=36500,
        description="age of the last upload at which unused sandboxes are deleted",
    )
    pilot_retention_days: float = Field(
        default=30.0,
        ge=1,
        le=36500,
        description="age of the last contact at which ended pilots are deleted",
    )
    node_retention_days: float = Field(
        default=90.0,
        ge=1,
        le=36500,
        description="age of the last contact at which nodes without pilots are deleted with their pins",
    )

    @property
    def kept(self) -> Kept:
        """All ages."""
        return Kept(
            tasks=timedelta(days=self.task_retention_days),
            events=timedelta(days=self.event_retention_days),
            audit=timedelta(days=self.audit_retention_days),
            sandboxes=timedelta(days=self.sandbox_retention_days),
            pilots=timedelta(days=self.pilot_retention_days),
            nodes=timedelta(days=self.node_retention_days),
        )
