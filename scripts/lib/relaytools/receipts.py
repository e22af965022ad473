# SPDX-License-Identifier: Apache-2.0
"""Reads the receipts of a receipt topic, as receipt.h describes them, and judges them: what the relay goes by in recovery has
to agree with itself and with PostgreSQL."""
import collections
import struct
import uuid

HEAD = struct.Struct("<4sBB16sQQQII")
KEPT = 64       # numbers of an outbox of which compaction keeps the receipts

Receipt = collections.namedtuple("Receipt", "identity generation number rows")     # rows: [(seq, hash)]


def decode(value):
    magic, version, _, identity, generation, number, _, _, count = HEAD.unpack_from(value)
    if (magic, version) != (b"OBRC", 1):
        raise ValueError(f"not a receipt: {value[:8]!r}")
    rows, at, seq = [], HEAD.size, 0
    for row in range(count):
        distance, shift = 0, 0
        while True:
            byte = value[at]
            distance |= (byte & 0x7f) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        seq = (distance >> 1) ^ -(distance & 1) if row == 0 else seq + distance
        rows.append((seq, value[at:at + 8]))
        at += 8
    return Receipt(str(uuid.UUID(bytes=identity)), generation, number, rows)


def judge(receipts, numbers):
    """What is wrong, in words. numbers: identity -> (generation, number) that PostgreSQL has."""
    found = []
    by_outbox = collections.defaultdict(lambda: collections.defaultdict(list))
    seen = {}
    for receipt in receipts:
        by_outbox[receipt.identity, receipt.generation][receipt.number].append(receipt)
        for row in receipt.rows:
            before = seen.setdefault((receipt.identity, row), receipt)
            if before is not receipt:
                found.append(f"row {row[0]} of {receipt.identity} is in the receipts {before.number} and {receipt.number}")
    for (identity, generation), batches in by_outbox.items():
        found += [f"{len(same)} receipts of batch {number} of {identity}" for number, same in batches.items() if len(same) > 1]
        last = numbers.get(identity, (None, None))
        if generation == last[0]:
            if max(batches) != last[1]:
                found.append(f"the last receipt of {identity} is of batch {max(batches)}, PostgreSQL ends at {last[1]}")
            missing = set(range(max(1, last[1] - KEPT + 1), last[1] + 1)) - set(batches)
            if missing:
                found.append(f"no receipts of the batches {sorted(missing)} of {identity}, of {last[1]}")
    return found
