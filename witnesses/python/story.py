"""What the two Python witnesses share: the records that they write, and how they say what they saw."""

import json
import sys

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
TIME = 1483228800000
RECORDS = 20
# Some clients send what does not shrink as it is.
FILLING = " tide" * 40
# Partition and offset that are committed in `ours`, and what is noted with each.
COMMITS = [(0, 3, "three"), (1, 5, "")]
# What is set of the topic that was made, and which of it is set back to its default.
SET = {"retention.ms": "3600000", "max.message.bytes": "100000"}
UNSET = "max.message.bytes"
REFUSED = ("cleanup.policy", "compact")
# Records of its first partition, and the first one that stays.
MADE_RECORDS = 5
STAYS = 3


def tell(did, **said):
    print(json.dumps({"did": did, **said}), flush=True)


def text(value):
    return None if value is None else value.decode()


def headers(pairs):
    return [[name, text(value)] for name, value in pairs or []]


def record(name, case, n, null_headers=True):
    """Key, value, headers and time of a case's n-th record."""
    value = (f"{case} {n}" + FILLING).encode()
    own = [("by", name.encode()), ("by", b"again"), ("case", case.encode())]
    if null_headers:
        own.append(("nothing", None))
    key = f"k{n}".encode()
    kind = n % 5
    if kind == 1:
        key = None
    elif kind == 2:
        value = None
    elif kind == 3:
        key, value = b"", b""
    elif kind == 4:
        own = []
    return key, value, own, TIME + 1000 * n


def cases():
    """Name, codec, acknowledgements and idempotence of each case."""
    for codec in CODECS:
        for acks in ["0", "1", "all"]:
            yield f"{codec}/{acks}", codec, acks, False
        yield f"{codec}/idempotent", codec, "all", True


def main(first, second):
    part, address, name = sys.argv[1:4]
    if part == "first":
        first(address, name, int(sys.argv[4]))
    else:
        second(address, name)
