/**
 * Measures Sluice on this machine, prints a table and writes bench/results/*.json. To be run in a sandbox, as `npm run bench` does:
 *
 *     npm run bench
 *     npm run bench -- --only a        a: connections, b: changes, c: cold start, d: the program, e: an API server,
 *                                      f: the network, g: the proxy of its udp backend, h: sluice observe,
 *                                      i: sluice matrix, j: sluice explain;
 *                                      may be given several times
 *     npm run bench -- --quick         each part in its smallest form, to see that it works
 *
 * What is measured and how is in docs/benchmarks.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { API_PLAN, measureApi, QUICK_API_PLAN } from './api/api.ts';
import { CHANGES_PLAN, measureChanges, QUICK_CHANGES_PLAN } from './changes/changes.ts';
import { COLD_START_PLAN, measureColdStart, QUICK_COLD_START_PLAN } from './cold-start/cold-start.ts';
import { FORWARDING_PLAN, measureForwarding, QUICK_FORWARDING_PLAN } from './forwarding/forwarding.ts';
import { EXPLAIN_PLAN, measureExplain, QUICK_EXPLAIN_PLAN } from './explain.ts';
import { thisMachine } from './machine.ts';
import { MATRIX_PLAN, measureMatrix, QUICK_MATRIX_PLAN } from './matrix.ts';
import { measureNetwork, NETWORK_PLAN, QUICK_NETWORK_PLAN } from './network/network.ts';
import { measureThroughput, QUICK_THROUGHPUT_PLAN, THROUGHPUT_PLAN } from './network/throughput.ts';
import { measureObserve, OBSERVE_PLAN, QUICK_OBSERVE_PLAN } from './observe/observe.ts';
import { measureProgram, PROGRAM_PLAN, QUICK_PROGRAM_PLAN } from './program.ts';
import { type BenchResult, report } from './report.ts';
import { measureUdpProxy, QUICK_UDP_PROXY_PLAN, UDP_PROXY_PLAN } from './udp-proxy/udp-proxy.ts';

const PARTS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'];
const RESULTS = new URL('results/', import.meta.url);

const { values } = parseArgs({
  options: { only: { type: 'string', multiple: true }, quick: { type: 'boolean', default: false } },
});
const { quick, only = PARTS } = values;
const unknown = only.find((part) => !PARTS.includes(part));
if (unknown !== undefined || process.env['SLUICE_SANDBOX'] === undefined) {
  console.error(
    unknown === undefined
      ? 'bench: run it in a sandbox, as `npm run bench` does'
      : `bench: there is no part "${unknown}"; parts are ${PARTS.join(', ')}`,
  );
  process.exit(2);
}

const startedAt = new Date();
const progress = (part: string) => (text: string) =>
  console.error(`${(performance.now() / 1000).toFixed(0).padStart(4)} s  ${part}: ${text}`);
let result: BenchResult = { machine: thisMachine(), startedAt: startedAt.toISOString(), quick };
if (only.includes('a')) {
  result = { ...result, forwarding: await measureForwarding(quick ? QUICK_FORWARDING_PLAN : FORWARDING_PLAN, progress('connections')) };
}
if (only.includes('b'))
  result = { ...result, changes: await measureChanges(quick ? QUICK_CHANGES_PLAN : CHANGES_PLAN, progress('changes')) };
if (only.includes('c')) {
  result = { ...result, coldStart: await measureColdStart(quick ? QUICK_COLD_START_PLAN : COLD_START_PLAN, progress('cold start')) };
}
if (only.includes('d')) result = { ...result, program: measureProgram(quick ? QUICK_PROGRAM_PLAN : PROGRAM_PLAN, progress('program')) };
if (only.includes('e')) result = { ...result, api: await measureApi(quick ? QUICK_API_PLAN : API_PLAN, progress('API server')) };
if (only.includes('f')) {
  result = { ...result, network: await measureNetwork(quick ? QUICK_NETWORK_PLAN : NETWORK_PLAN, progress('network')) };
  result = { ...result, throughput: await measureThroughput(quick ? QUICK_THROUGHPUT_PLAN : THROUGHPUT_PLAN, progress('overlay')) };
}
if (only.includes('g'))
  result = { ...result, udpProxy: await measureUdpProxy(quick ? QUICK_UDP_PROXY_PLAN : UDP_PROXY_PLAN, progress('udp')) };
if (only.includes('h'))
  result = { ...result, observe: await measureObserve(quick ? QUICK_OBSERVE_PLAN : OBSERVE_PLAN, progress('observe')) };
if (only.includes('i')) result = { ...result, matrix: measureMatrix(quick ? QUICK_MATRIX_PLAN : MATRIX_PLAN, progress('matrix')) };
if (only.includes('j'))
  result = { ...result, explain: await measureExplain(quick ? QUICK_EXPLAIN_PLAN : EXPLAIN_PLAN, progress('explain')) };

mkdirSync(RESULTS, { recursive: true });
const file = new URL(`${startedAt.toISOString().replaceAll(':', '')}.json`, RESULTS);
writeFileSync(file, `${JSON.stringify(result, undefined, 2)}\n`);
console.log(report(result));
console.error(`written to ${file.pathname}`);
