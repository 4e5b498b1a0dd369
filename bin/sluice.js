#!/usr/bin/env node
// The entry point. Plain JavaScript without static imports, so that a Node that is too old for the program can still say so.
const wanted = 24;
if (Number(process.versions.node.split('.')[0]) < wanted) {
  console.error(
    `sluice: needs Node ${wanted} or newer, and this is ${process.versions.node}; in a checkout, run \`npx sluice\`, which brings its own`,
  );
  process.exitCode = 2;
} else {
  void import('../src/cli.ts').then(({ main }) => main(process.argv.slice(2)));
}
