"""What a topic keeps: by age and by size, in whole segments.

Rule: only whoever has the topic's turn to write drops anything, and the newest segment stays.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass

from vedette.storage.sqlite_stream_records import is_damage
from vedette.storage.sqlite_stream_segments import Segment, TopicFiles, connect


@dataclass(frozen=True, slots=True)
class Retention:
    """Limits of a topic. Its segments are small parts of them, so that little too much or too early goes."""

    seconds: float
    bytes: int

    @property
    def segment_bytes(self) -> int:
        """Size at which a segment is full: a sixteenth of the topic."""
        return max(self.bytes // 16, 64 << 10)

    def full(self, segment: Segment) -> bool:
        """Whether the next message belongs into a new segment."""
        return segment.size >= self.segment_bytes or time.time() - segment.made >= self.seconds / 8

    def drop_old(self, files: TopicFiles) -> None:
        """Remove segments that are too old as a whole, and the oldest while there are too many bytes."""
        segments = files.segments()
        sizes = [segment.size for segment in segments]
        oldest_kept = time.time() - self.seconds
        room = self.bytes - self.segment_bytes + (sizes[-1] if sizes else 0)
        for index, segment in enumerate(segments[:-1]):
            if segment.written < oldest_kept or sum(sizes[index:]) > room:
                segment.remove()

    def sweep(self, files: TopicFiles) -> None:
        """Drop what is over the limits also where nobody publishes: then a new, empty segment takes over."""
        segments = files.segments()
        if not segments:
            return
        newest = segments[-1]
        if newest.written < time.time() - self.seconds and (end := _end(files, newest)) > newest.first:
            files.create(end)
        self.drop_old(files)


def _end(files: TopicFiles, newest: Segment) -> int:
    try:
        with closing(connect(newest.path)) as db:
            return files.end(newest, db)
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return files.end_of_damaged(newest)
