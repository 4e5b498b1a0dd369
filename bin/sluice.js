#!/usr/bin/env -S node --max-semi-space-size=2
// A small nursery: an agent makes little garbage after its first list, and the difference is 60 MB of memory for good.
// The entry point. Plain JavaScript without static imports, so that a Node that is too old for the program can still say so.
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
    .then(({ main }) => main(process.argv.slice(2)));
}
