"""Whose tasks a caller may see and touch: its own, those at the sites it administers, or all."""

from __future__ import annotations

from dataclasses import dataclass

from pandawn_server.domain.access.principals import Principal, Role


@dataclass(frozen=True, slots=True)
class Reach:
    """What of others' work is within a caller's reach.

    `user` is the name under which its own tasks are; a caller without a name has none.
    """

    everything: bool
    user: str = ""
    sites: frozenset[str] = frozenset()

    def covers(self, user: str, site: str) -> bool:
        """Whether the work of a user at a site is within it."""
        return self.everything or (bool(self.user) and user == self.user) or site in self.sites

    @property
    def key(self) -> tuple[str, ...]:
        """Names it, for tokens of pages that show no more than is within it."""
        return () if self.everything else (self.user, *sorted(self.sites))


def may_see(by: Principal) -> Reach:
    """What a caller may look at: monitors look at everything."""
    if Role.MONITOR in by.roles:
        return Reach(everything=True)
    return may_touch(by)


def sees_inside(by: Principal, site: str, queue: str = "") -> bool:
    """Whether a caller may see what concerns those who run a site.

    That is what payloads are given by a queue, and which machines and batch jobs its pilots are. Pilots see it of
    their queue.
    """
    if Role.MONITOR in by.roles or by.administers(site):
        return True
    if by.session is not None:
        return by.session.queue == queue or (not queue and by.session.key.site == site)
    return Role.PILOT in by.roles and (not by.sites or site in by.sites)


def sites_to_change(by: Principal) -> frozenset[str] | None:
    """The sites whose queues and lists are a caller's to change; None for all."""
    if by.is_operator:
        return None
    return by.sites if Role.SITE_ADMIN in by.roles else frozenset()


def may_touch(by: Principal) -> Reach:
    """What a caller may change."""
    if by.is_operator:
        return Reach(everything=True)
    sites = by.sites if Role.SITE_ADMIN in by.roles else frozenset[str]()
    return Reach(everything=False, user=by.name, sites=sites)
