"""Which live node holds which files, as far as the matchmaker knows, and which files are on their way."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import count

from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.dispatch.files import Files
from pandawn_server.domain.dispatch.nodes import Node

COMING_S = 1200.0
"""How long after a match, in seconds, its files count as on their way: 20 min. That is twice the time for the
14 GiB of the largest usual job at 60 MB/s on a link shared by three. By then the catalog lists them, or the
transfer failed."""


class Holdings:
    """All nodes of a queue; keeps the places in `files` up to date."""

    def __init__(self, files: Files) -> None:
        self._nodes: dict[NodeKey, Node] = {}
        self.by_number: dict[int, Node] = {}
        self._numbers = count()
        self._files = files
        self._arrivals: deque[tuple[float, Node, tuple[int, ...]]] = deque()

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def node(self, key: NodeKey) -> Node:
        """The node with that key; added if it is new."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(key, next(self._numbers))
            self.by_number[node.number] = node
        return node

    def drop_node(self, node: Node) -> None:
        """Drops a node without pilots and files: some sites use each node name only once.

        Its number is not reused, because lists may still refer to it.
        """
        if self._nodes.get(node.key) is node and not (node.live or node.files or node.idle):
            del self._nodes[node.key]
            del self.by_number[node.number]

    def find(self, key: NodeKey) -> Node | None:
        """The node with that key, if there is one."""
        return self._nodes.get(key)

    def set_live(self, node: Node, *, live: bool) -> None:
        """Sets whether the node has pilots; files on a node without pilots attract no jobs."""
        if node.live == live:
            return
        node.live = live
        change = self._files.enter if live else self._files.leave
        for file in node.files:
            change(file, node.number)
        for file in node.coming:
            if file not in node.files:
                change(file, node.number)

    def replace(self, node: Node, files: Collection[int]) -> list[int]:
        """Replaces the node's inventory; returns the files that are new."""
        new = set(files)
        # Files that are on their way and not in the inventory may still arrive.
        self.drop(node, node.files - new)
        new -= node.files
        came = self.add(node, new)
        node.pack()
        return came

    def add(self, node: Node, files: Iterable[int]) -> list[int]:
        """Adds files that the cache confirmed; returns those that were not even on their way."""
        came = []
        for file in files:
            if file in node.files:
                continue
            node.files.add(file)
            if node.coming.pop(file, None) is None:
                came.append(file)
                if node.live:
                    self._files.enter(file, node.number)
        return came

    def drop(self, node: Node, files: Iterable[int]) -> None:
        """Removes files that the cache deleted."""
        for file in files:
            if file in node.files:
                node.files.discard(file)
                if node.live and file not in node.coming:
                    self._files.leave(file, node.number)

    def expect(self, node: Node, files: Iterable[int], now: float) -> list[int]:
        """Records files as on their way; returns those that are new to the node."""
        until = now + COMING_S
        missing = tuple([file for file in files if file not in node.files])
        came = [file for file in missing if file not in node.coming]
        for file in missing:
            node.coming[file] = until
        if node.live:
            for file in came:
                self._files.enter(file, node.number)
        if missing:
            self._arrivals.append((until, node, missing))
        return came

    def unexpect(self, node: Node, files: Iterable[int]) -> None:
        """Undoes `expect`: the transfer will not take place."""
        for file in files:
            if node.coming.pop(file, None) is not None and node.live:
                self._files.leave(file, node.number)

    def expire(self, now: float) -> None:
        """Drops files that have been on their way for too long."""
        while self._arrivals and self._arrivals[0][0] <= now:
            _, node, files = self._arrivals.popleft()
            # Another job may have asked for the file since.
            self.unexpect(node, [f for f in files if node.coming.get(f, math.inf) <= now])
