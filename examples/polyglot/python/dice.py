"""Derives from each record what the clocks say, numbers by chance, and how long a nap of a minute took.

All of it is the step's own: run again, the step derives the same, and nobody waits for the nap.
"""

import json
import os
import time

from wit_world import exports
from wit_world.imports import types


class Handler(exports.Handler):
    def handle(self, this):
        before = time.monotonic()
        time.sleep(60)
        nap = round(time.monotonic() - before)
        for parent, event in enumerate(this.events()):
            told = {"now": int(time.time() * 1000), "random": os.urandom(8).hex(), "nap": nap, "offset": event.offset}
            print(f"thrown at {told['now']}")
            value = json.dumps(told).encode()
            this.emit(parent, "dice-python", [types.Outgoing(event.key, value, [], None)])
