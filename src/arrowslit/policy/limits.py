"""Token bucket as a value: how often something may happen, without a clock and without a lock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """`capacity` at once, then `per_second`. `level` is what was left at `at`, in seconds of a monotonic clock."""

    capacity: float
    per_second: float
    level: float
    at: float


def take(bucket: Bucket, now: float) -> tuple[Bucket, float]:
    """The bucket after one more, and 0.0; with none left, the bucket as it is and the seconds until there is one."""
    level = min(bucket.capacity, bucket.level + max(0.0, now - bucket.at) * bucket.per_second)
    at = max(now, bucket.at)
    if level >= 1:
        return Bucket(bucket.capacity, bucket.per_second, level - 1, at), 0.0
    return Bucket(bucket.capacity, bucket.per_second, level, at), (1 - level) / bucket.per_second
