#!/usr/bin/env node
// What kubectl asks to complete the words behind `kubectl sluice` (kubectl 1.26 and later).
const wanted = 24;
if (Number(process.versions.node.split('.')[0]) < wanted) {
  console.error(
    `sluice: needs Node ${wanted} or newer, and this is ${process.versions.node}; in a checkout, run \`npx sluice\`, which brings its own`,
  );
  process.exitCode = 2;
} else {
  // Stripping the types of a hundred files takes 60 ms and 20 MB at every start; once is enough. Where the directory cannot be
  // written, every start does it.
  void import('node:module')
    .then(({ enableCompileCache }) => enableCompileCache(`${import.meta.dirname}/../node_modules/.cache/sluice`))
    .then(() => import('../src/cli.ts'))
    .then(({ main }) => main(['__complete', ...process.argv.slice(2)]));
}
