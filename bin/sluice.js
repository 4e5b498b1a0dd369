#!/usr/bin/env -S node --max-semi-space-size=2 --v8-pool-size=2 --heap-growing-percent=100
// For the agent's memory: a small nursery, because it makes little garbage after its first list (60 MB less for good); two threads
// of V8 instead of four, and a heap that no more than doubles between collections (20 MB less at the peak of a start).
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
