// node build.mjs SOURCE WIT COMPONENT: a component of the world `plugin` out of a module of JavaScript.
//
// `http` and `fetch` are left out, since a broker offers neither; clocks, random numbers and the console stay, and are
// the step's own.

import { componentize } from '@bytecodealliance/componentize-js';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';

const [sourcePath, witPath, target] = process.argv.slice(2);
const { component } = await componentize({
  sourcePath,
  witPath,
  worldName: 'plugin',
  disableFeatures: ['http', 'fetch-event'],
});
await mkdir(dirname(target), { recursive: true });
await writeFile(target, component);
