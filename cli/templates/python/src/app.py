"""Greets whoever comes, and counts their visits.

Reads `{{name}}-in`, derives `{{name}}-out`. State: the key is the name, the value the visits as JSON.

An instance serves one step and is discarded: what is to last belongs into the state. Clocks and `os.urandom` are the
step's own, so that a step that is run again derives the same. What is printed goes to the plugin's log.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, types


class Handler(exports.Handler):
    def handle(self, this):
        greeting = config.get("greeting")
        for parent, event in enumerate(this.events()):
            name = name_in(event)
            key = name.encode()
            before = this.state_get(key)
            visits = (0 if before is None else json.loads(before)) + 1
            this.state_put(key, json.dumps(visits).encode())
            value = json.dumps({"text": f"{greeting}, {name}", "visits": visits}).encode()
            this.emit(parent, "{{name}}-out", [types.Outgoing(key, value, [], None)])


def name_in(event):
    """The visitor's name. A step fails with what is raised so: `Failure_Retry` may help, `Failure_Reject` never does."""
    try:
        visitor = json.loads(event.value)
        if isinstance(visitor, dict) and isinstance(visitor.get("name"), str):
            return visitor["name"]
    except ValueError:
        pass
    raise Err(types.Failure_Reject("a visitor needs a name"))
