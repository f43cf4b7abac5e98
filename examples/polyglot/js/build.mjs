// node build.mjs SOURCE WIT COMPONENT: a component of the world `plugin` out of a module of JavaScript.
//
// `http` and `fetch` are left out, since a broker offers neither; clocks, random numbers and the console stay, and are
// the step's own.

import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';

const [sourcePath, witPath, target] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath,
  witPath,
  worldName: 'plugin',
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(target, component);
