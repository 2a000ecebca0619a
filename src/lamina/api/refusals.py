"""How many refusals are recorded: a flood of them must not fill the disk, nor hide what else happens."""

from __future__ import annotations

import dataclasses

#: seconds that are counted over
WINDOW = 60.0
#: most refusals recorded in that time of one sender, and of all together
MOST_OF_ONE, MOST_OF_ALL = 10, 120
#: most senders that are remembered
MOST_KEPT = 1000


@dataclasses.dataclass(slots=True)
class _Count:
    began_at: float
    recorded: int = 0
    left_out: int = 0

    def has_room(self, most: int, now: float) -> bool:
        if not 0 <= now - self.began_at < WINDOW:
            self.began_at, self.recorded = now, 0
        return self.recorded < most


class Refusals:
    """The counts of one process. Not safe for threads: an event loop asks."""

    def __init__(self) -> None:
        self._of: dict[str, _Count] = {}
        self._all = _Count(0.0)
        #: left out, of senders that are not remembered any more
        self._forgotten = 0

    def admit(self, sender: str, now: float) -> int | None:
        """Whether one more refusal of this sender is recorded: None if not, else how many were left out since the last that was."""
        count = self._of.get(sender)
        if count is None:
            self._make_room(now)
            count = self._of[sender] = _Count(now)
        # both are asked: each begins its next window where its time is over
        if not (count.has_room(MOST_OF_ONE, now) & self._all.has_room(MOST_OF_ALL, now)):
            count.left_out += 1
            return None
        count.recorded += 1
        self._all.recorded += 1
        left_out, count.left_out, self._forgotten = count.left_out + self._forgotten, 0, 0
        return left_out

    def _make_room(self, now: float) -> None:
        if len(self._of) < MOST_KEPT:
            return
        over = [sender for sender, count in self._of.items() if not 0 <= now - count.began_at < WINDOW]
        for sender in over or list(self._of):
            self._forgotten += self._of.pop(sender).left_out
