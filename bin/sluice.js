#!/usr/bin/env -S node --max-semi-space-size=2 --max-old-space-size=1536
// For the agent's memory: a small nursery, since it makes little garbage after its first list (60 MB less for good), and a bound that
// makes V8 let its heap less than double between collections (30 MB less at the peak of a start). 100,000 pods take 120 MB of it.
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
