"""Which tasks a caller may see and change: its own, those at the sites that it administers, or all."""

from __future__ import annotations

from dataclasses import dataclass

from pandawn_server.domain.access.principals import Principal, Role


@dataclass(frozen=True, slots=True)
class Reach:
    """The work within a caller's reach: everything, that of `user`, and that at `sites`.

    `user` is the caller's own user name; a caller without a name has no tasks.
    """

    everything: bool
    user: str = ""
    sites: frozenset[str] = frozenset()

    def covers(self, user: str, site: str) -> bool:
        """Whether the work of a user at a site is within it."""
        return self.everything or (bool(self.user) and user == self.user) or site in self.sites

    @property
    def key(self) -> tuple[str, ...]:
        """Identifies the reach, so that page tokens cannot be used with another one."""
        return () if self.everything else (self.user, *sorted(self.sites))


def may_see(by: Principal) -> Reach:
    """What a caller may see: monitors see everything."""
    if Role.MONITOR in by.roles:
        return Reach(everything=True)
    return may_change(by)


def sees_inside(by: Principal, site: str, queue: str = "") -> bool:
    """Whether a caller may see a site's internal data.

    These are the queue's settings for payloads, and the machines and batch jobs of its pilots. Pilots see
    those of their own queue.
    """
    if Role.MONITOR in by.roles or by.administers(site):
        return True
    if by.session is not None:
        return by.session.queue == queue or (not queue and by.session.key.site == site)
    return Role.PILOT in by.roles and (not by.sites or site in by.sites)


def sites_to_change(by: Principal) -> frozenset[str] | None:
    """The sites whose queues and lists a caller may change; None means all."""
    if by.is_operator:
        return None
    return by.sites if Role.SITE_ADMIN in by.roles else frozenset()


def may_change(by: Principal) -> Reach:
    """What a caller may change."""
    if by.is_operator:
        return Reach(everything=True)
    sites = by.sites if Role.SITE_ADMIN in by.roles else frozenset[str]()
    return Reach(everything=False, user=by.name, sites=sites)
