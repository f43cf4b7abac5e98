"""Tells whether a product can be bought: what plugins/storefront does, in Python.

Reads `inventory-updates`, derives a record with a product's first update, and then only when the answer changes.

From how many in stock on it can be bought stands in a file that is deployed with it.

State: the key is the product, the value its last answer as JSON.
"""

import json

from wit_world import exports
from wit_world.imports import config, types


class Handler(exports.Handler):
    def handle(self, this):
        topic = config.get("topic")
        with open("/data/rules.json", encoding="utf-8") as file:
            minimum = json.load(file)["minimum"]
        for parent, event in enumerate(this.events()):
            update = json.loads(event.value)
            product = update["productId"]
            is_available = update["currentStock"] >= minimum
            key, answer = product.encode(), json.dumps(is_available).encode()
            if this.state_get(key) == answer:
                continue
            this.state_put(key, answer)
            told = {"productId": product, "available": is_available}
            value = json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()
            this.emit(parent, topic, [types.Outgoing(key, value, [], None)])
