// Greets whoever comes, and counts their visits.
//
// Reads `{{name}}-in`, derives `{{name}}-out`. State: the key is the name, the value the visits as JSON.
//
// An instance serves one step and is discarded: what is to last belongs into the state. `Date` and `Math.random` are
// the step's own, so that a step that is run again derives the same. `console.log` goes to the plugin's log.

import { get } from 'tidemill:plugin/config@0.1.0';

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const parse = (bytes) => JSON.parse(decoder.decode(bytes));
const bytes = (value) => encoder.encode(JSON.stringify(value));

export const handler = {
  handle(step) {
    const greeting = get('greeting');
    step.events().forEach((event, parent) => {
      const name = nameIn(event);
      const key = encoder.encode(name);
      const before = step.stateGet(key);
      const visits = (before === undefined ? 0 : parse(before)) + 1;
      step.statePut(key, bytes(visits));
      const value = bytes({ text: `${greeting}, ${name}`, visits });
      step.emit(parent, '{{name}}-out', [{ key, value, headers: [] }]);
    });
  },
};

// What is thrown so is the step's failure: `retry` may help, `reject` never does. Any other error is a fault of the
// plugin, and is tried again as often as the manifest says.
function nameIn(event) {
  try {
    const { name } = parse(event.value);
    if (typeof name === 'string') return name;
  } catch {}
  throw { tag: 'reject', val: 'a visitor needs a name' };
}
