// Tells whether a product can be bought: what plugins/storefront does, in JavaScript.
//
// Reads `inventory-updates`, derives a record with a product's first update, and then only when the answer changes.
//
// From how many in stock on it can be bought stands in a file that is deployed with it.
//
// State: the key is the product, the value its last answer as JSON.

import { get } from 'tidemill:plugin/config@0.1.0';
import { read } from 'tidemill:plugin/files@0.1.0';

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export const handler = {
  handle(step) {
    const topic = get('topic');
    const { minimum } = JSON.parse(decoder.decode(read('/data/rules.json', 0n, 65536)));
    step.events().forEach((event, parent) => {
      const { productId, currentStock } = JSON.parse(decoder.decode(event.value));
      const key = encoder.encode(productId);
      const available = currentStock >= minimum;
      const before = step.stateGet(key);
      if (before !== undefined && JSON.parse(decoder.decode(before)) === available) return;
      step.statePut(key, encoder.encode(JSON.stringify(available)));
      const value = encoder.encode(JSON.stringify({ productId, available }));
      step.emit(parent, topic, [{ key, value, headers: [] }]);
    });
  },
};
