/** The results as tables for people (Markdown, so that they can be pasted into docs/benchmarks.md as they are), and the targets. */
import { type ApiResult, type ApiStart, medianStart } from './api/api.ts';
import type { ChangesResult } from './changes/changes.ts';
import type { ColdStartResult } from './cold-start/cold-start.ts';
import type { ForwardingResult } from './forwarding/forwarding.ts';
import type { Machine } from './machine.ts';
import type { NetworkResult } from './network/network.ts';
import { OURS, type ThroughputResult, withinNoise } from './network/throughput.ts';
import type { ExplainResult } from './explain.ts';
import type { ObserveResult } from './observe/observe.ts';
import type { MatrixResult } from './matrix.ts';
import type { ProgramResult } from './program.ts';
import { type UdpProxyResult, udpProxyReport, udpProxyTargets } from './udp-proxy/udp-proxy.ts';
import { median, type Spread, spread } from './statistics.ts';

export interface BenchResult {
  readonly machine: Machine;
  readonly startedAt: string;
  /** A run that only shows that the parts work. */
  readonly quick: boolean;
  readonly forwarding?: ForwardingResult;
  readonly changes?: readonly ChangesResult[];
  readonly coldStart?: ColdStartResult;
  readonly program?: ProgramResult;
  readonly matrix?: MatrixResult;
  readonly api?: ApiResult;
  readonly network?: NetworkResult;
  readonly throughput?: ThroughputResult;
  readonly udpProxy?: UdpProxyResult;
  readonly observe?: ObserveResult;
  readonly explain?: ExplainResult;
}

export interface Target {
  readonly what: string;
  readonly wanted: string;
  readonly measured: string;
  readonly met: boolean;
}

export function report(result: BenchResult): string {
  const { machine, quick, forwarding, changes, coldStart, program, api, network, throughput, udpProxy, observe, matrix, explain } = result;
  const sections = [
    `Linux ${machine.kernel}, ${machine.cores} × ${machine.processor}, ${Math.round(machine.memoryBytes / 2 ** 30)} GiB, Node ${machine.node}`,
  ];
  if (quick) sections.push('A quick run: it shows that the parts work, and its figures mean nothing.');
  if (forwarding !== undefined) sections.push(forwardingSection(forwarding));
  if (changes !== undefined) sections.push(changesSection(changes));
  if (coldStart !== undefined) sections.push(coldStartSection(coldStart));
  if (program !== undefined) sections.push(programSection(program));
  if (api !== undefined) sections.push(apiSection(api));
  if (network !== undefined) sections.push(networkSection(network));
  if (throughput !== undefined) sections.push(throughputSection(throughput));
  if (udpProxy !== undefined) sections.push(`### The proxy of the udp backend\n\n${udpProxyReport(udpProxy)}`);
  if (observe !== undefined) sections.push(observeSection(observe));
  if (explain !== undefined) sections.push(explainSection(explain));
  if (matrix !== undefined) sections.push(matrixSection(matrix));
  const reached = targets(result);
  if (reached.length > 0 && !quick) {
    const rows = reached.map(({ what, wanted, measured, met }) => [what, wanted, measured, met ? 'yes' : 'NO']);
    sections.push(`### Targets\n\n${table(['target', 'wanted', 'measured', 'met'], rows)}`);
  }
  return sections.join('\n\n');
}

function networkSection({ peers, daemons, missing }: NetworkResult): string {
  const rows = daemons.map(({ daemon, startsMs, join, residentBytes, idlePercent }) => [
    daemon,
    `${((startsMs[0] ?? Number.NaN) / 1000).toFixed(2)} s`,
    startsMs.length < 2 ? '–' : `${(median(startsMs.slice(1)) / 1000).toFixed(2)} s`,
    `${join.p50.toFixed(1)} / ${join.p99.toFixed(1)} ms`,
    `${Math.round(residentBytes / 1e6)} MB`,
    `${idlePercent.toFixed(2)} %`,
  ]);
  const header = [
    'daemon',
    'start, nothing there',
    'start, all but one there',
    'a node that comes, p50 / p99',
    'memory',
    'idle, of a core',
  ];
  const notes = missing === undefined ? [] : [`Left out: ${missing}.`];
  return [`### The network of a node with ${number(peers)} peers`, table(header, rows), ...notes].join('\n\n');
}

function throughputSection({ variants, missing }: ThroughputResult): string {
  const rows = variants.map(({ name, bulk, requests }) => [
    name,
    ((bulk.perSecond.median * 8) / 1e9).toFixed(2),
    bulk.ratio === undefined ? '–' : ratioText(bulk.ratio),
    number(requests.perSecond.median),
    requests.ratio === undefined ? '–' : ratioText(requests.ratio),
  ]);
  const header = ['vxlan made by', 'a TCP stream, Gbit/s', 'ratio to flanneld', 'requests/s', 'ratio to flanneld'];
  const notes = missing === undefined ? [] : [`Left out: ${missing}.`];
  return ['### Through the overlay', table(header, rows), ...notes].join('\n\n');
}

function explainSection({ shape, cases }: ExplainResult): string {
  const rows = cases.map(({ name, ms: took, bytes }) => [name, seconds(took), bytes === undefined ? '' : mb(bytes)]);
  const of = `${number(shape.pods)} pods, ${number(shape.namespaces)} namespaces, ${number(shape.policies)} policies`;
  return `### \`sluice explain\` beside ${of}\n\n${table(['objects from', 'the whole program', 'text'], rows)}`;
}

function observeSection({ plan, states, clockRatio, ratio, shownPerSecond }: ObserveResult): string {
  const rows = states.map(({ state, perSecond, perCpuSecond, refusedPerSecond, agentCpu, observersCpu, failures }) => [
    state,
    number(perSecond.median),
    number(perCpuSecond.median),
    number(refusedPerSecond.median),
    `${agentCpu.median.toFixed(1)} %`,
    `${observersCpu.median.toFixed(1)} %`,
    String(failures),
  ]);
  const header = ['', 'connections/s', 'per CPU second', 'refused/s', 'the agent, of a core', 'those who observe', 'failed'];
  const notes = [
    `With two who observe to the same flood unobserved: ${ratioText(clockRatio)} by the clock, ${ratioText(ratio)} for a second of CPU time; ` +
      `${number(plan.rounds)} rounds. Shown: ${number(shownPerSecond)} a second, of ${number(plan.refusingPods)} pods that refuse.`,
  ];
  return `### Observed while a flood is refused\n\n${table(header, rows)}\n\n${notes.join('\n')}`;
}

function forwardingSection({ variants, loadUs, missing }: ForwardingResult): string {
  const rows = variants.map(({ name, perSecond, perCpuSecond, ratio, clockRatio, failures }) => [
    name,
    number(perSecond.median),
    number(perCpuSecond.median),
    ratioText(ratio),
    ratioText(clockRatio),
    String(failures),
  ]);
  const header = ['between the pods', 'connections/s', 'per CPU second', 'ratio to the baseline', 'by the clock', 'failed'];
  const notes = [
    `Of each connection the load itself takes ${loadUs.toFixed(2)} µs of CPU time.`,
    ...missing.map((text) => `Left out: ${text}.`),
  ];
  return `### Connections through a bridge\n\n${table(header, rows)}\n\n${notes.join('\n')}`;
}

function changesSection(results: readonly ChangesResult[]): string {
  const rows = results.flatMap(({ node, changes }) =>
    Object.entries(changes).map(([kind, { total, compute, commit, busy, operations }], index) => [
      index === 0 ? number(node.shape.pods) : '',
      index === 0 ? number(node.shape.localPods) : '',
      kind,
      `${ms(total.p50)} / ${ms(total.p99)}`,
      `${ms(compute.p50)} / ${ms(compute.p99)}`,
      `${ms(commit.p50)} / ${ms(commit.p99)}`,
      `${ms(busy.p50)} / ${ms(busy.p99)}`,
      number(operations),
      number(total.count),
    ]),
  );
  const header = ['pods', 'of them here', 'changed', 'event to commit', 'compute', 'commit', 'with the sweep', 'operations', 'events'];
  const nodes = results.map(
    ({ node }) =>
      `${number(node.shape.localPods)} of ${number(node.shape.pods)} pods: ${number(node.isolatedPods)} pod chains, ` +
      `${number(node.activePolicies)} active policies, ${number(node.chains)} chains, ${number(node.sets)} sets`,
  );
  return `### One change (ms, p50 / p99)\n\n${table(header, rows)}\n\n${nodes.join('  \n')}`;
}

function coldStartSection({ shape, starts, parsing }: ColdStartResult): string {
  const of = (pick: (start: ColdStartResult['starts'][number]) => number): Spread => spread(starts.map(pick));
  const seconds = (value: Spread): string =>
    `${(value.median / 1000).toFixed(2)} s (${(value.low / 1000).toFixed(2)}–${(value.high / 1000).toFixed(2)})`;
  const mebibytes = (value: Spread): string => `${mb(value.median)} (${mb(value.low)}–${mb(value.high)})`;
  const rows = [
    ['process start to first commit', seconds(of(({ totalMs }) => totalMs))],
    ['CPU time of all threads', seconds(of(({ cpuMs }) => cpuMs))],
    ['of that, making the objects', seconds(of(({ generationMs }) => generationMs))],
    ['of that, the commit', seconds(of(({ commitMs }) => commitMs))],
    ['peak resident memory (VmHWM)', mebibytes(of(({ peakBytes }) => peakBytes))],
    ['V8 heap at the commit', mebibytes(of(({ heapBytes }) => heapBytes))],
    ['apart: parsing all objects as JSON', `${(parsing.jsonMs / 1000).toFixed(2)} s (${mb(parsing.jsonBytes)})`],
    ['apart: parsing all objects as YAML', `${(parsing.yamlMs / 1000).toFixed(1)} s`],
  ];
  const title = `${number(shape.pods)} pods (${number(shape.localPods)} here), ${number(shape.namespaces)} namespaces, ${number(shape.policies)} policies`;
  return `### Cold start: ${title}\n\n${table(['', `median of ${starts.length} (quartiles)`], rows)}`;
}

function programSection({ version, emptyProgram, verdictsPerSecond, pods }: ProgramResult): string {
  const spreadMs = (value: Spread): string => `${value.median.toFixed(0)} ms (${value.low.toFixed(0)}–${value.high.toFixed(0)})`;
  const rows = [
    ['`sluice --version`', spreadMs(version)],
    ['an empty program, in turns with it', spreadMs(emptyProgram)],
    [`verdicts a second beside ${number(pods)} pods`, number(verdictsPerSecond.median)],
  ];
  return `### The program\n\n${table(['', 'median (quartiles)'], rows)}`;
}

function matrixSection({ pods, cases }: MatrixResult): string {
  const rows = cases.map(({ name, ms, flows }) => [name, seconds(ms), number(flows)]);
  return `### \`sluice matrix\` of ${number(pods)} pods\n\n${table(['', 'median (quartiles)', 'flows in the answer'], rows)}`;
}

function seconds({ median, low, high }: Spread): string {
  return `${(median / 1000).toFixed(2)} s (${(low / 1000).toFixed(2)}–${(high / 1000).toFixed(2)})`;
}

function apiSection({ shapes, starts, latency, rate, recorded, idlePercent, statusUpdates }: ApiResult): string {
  const startRows = shapes.map(({ pods, policies }, index) => {
    const { totalMs, stallMs, residentBytes } = medianStart(starts[index] ?? []);
    return [number(pods), number(policies), `${(totalMs / 1000).toFixed(2)} s`, `${stallMs.toFixed(0)} ms`, mb(residentBytes)];
  });
  const rows = [
    [
      'from the answer to `apply` to the kernel, p50 / p99',
      `${ms(latency.p50)} / ${ms(latency.p99)} ms (${number(latency.count)} changes)`,
    ],
    ['policies a second that the API server takes alone', number(rate.alonePerSecond)],
    [
      `the same beside the agent, ${number(rate.wantedPerSecond)} wanted`,
      `${number(rate.perSecond)}, backlog at the end ${ms(rate.backlogMs)} ms`,
    ],
    [
      `recorded stream, ${number(recorded.perSecond)} changes a second: due to in force, p50 / p99`,
      `${ms(recorded.latency.p50)} / ${ms(recorded.latency.p99)} ms, backlog at the end ${ms(recorded.backlogMs)} ms, ${number(recorded.commits)} commits`,
    ],
    ['CPU while nothing happens', `${idlePercent.toFixed(2)} % of a core`],
    [
      `CPU with ${number(statusUpdates.perSecond)} status updates of pods a second`,
      `${statusUpdates.percent.toFixed(2)} % of a core, ${statusUpdates.commits} commits`,
    ],
  ];
  const head = ['pods', 'policies', 'process start to all in force', 'longest stall', 'peak resident memory'];
  return `### Fed by an API server\n\n${table(head, startRows)}\n\n${table(['', 'measured'], rows)}`;
}

/** What issue and README promise. Nothing is said of parts that were not measured. */
export function targets({
  forwarding,
  changes,
  coldStart,
  program,
  api,
  network,
  throughput,
  udpProxy,
  observe,
  matrix,
  explain,
}: BenchResult): Target[] {
  const targets: Target[] = [];
  const target = (what: string, wanted: string, measured: string, met: boolean): number => targets.push({ what, wanted, measured, met });
  const largest = forwarding?.variants.filter(({ name }) => name.startsWith('Sluice')).at(-1);
  if (largest !== undefined) {
    const { median } = largest.clockRatio;
    target(`connections a second: ${largest.name}`, '≥ 0.95 of the baseline', median.toFixed(3), median >= 0.95);
  }
  const few = changes?.[0];
  const many = changes?.find(({ node }) => node.shape.pods >= 100_000);
  if (few !== undefined && many !== undefined) {
    const p50 = worst(many, ({ commit }) => commit.p50);
    const p99 = worst(many, ({ total }) => total.p99);
    target('one change beside 100,000 pods: kernel commit p50', '≤ 1 ms', `${ms(p50)} ms`, p50 <= 1);
    target('the same: event to commit p99', '≤ 10 ms', `${ms(p99)} ms`, p99 <= 10);
    const factor = worst(many, (latencies, kind) => latencies.total.p50 / few.changes[kind].total.p50);
    target('the same, p50, to beside 100 pods', '≤ 2 ×', `${factor.toFixed(2)} ×`, factor <= 2);
  }
  if (coldStart !== undefined) {
    const total = median(coldStart.starts.map(({ totalMs }) => totalMs));
    const peak = median(coldStart.starts.map(({ peakBytes }) => peakBytes));
    target('cold start: first commit', '≤ 5 s', `${(total / 1000).toFixed(2)} s`, total <= 5000);
    target('cold start: resident memory', '≤ 300 MB', mb(peak), peak <= 300e6);
  }
  if (program !== undefined) {
    target('`sluice --version`', '≤ 150 ms', `${program.version.median.toFixed(0)} ms`, program.version.median <= 150);
  }
  if (api !== undefined) {
    const { latency, rate, recorded, idlePercent, statusUpdates } = api;
    target('`apply` to kernel, p50', '≤ 5 ms', `${ms(latency.p50)} ms`, latency.p50 <= 5);
    target('`apply` to kernel, p99', '≤ 20 ms', `${ms(latency.p99)} ms`, latency.p99 <= 20);
    // A fortieth of a second: no more than the last few changes.
    target('80 % of what the API server takes: backlog', '≤ 25 ms', `${ms(rate.backlogMs)} ms`, rate.backlogMs <= 25);
    target('1,000 changes a second, recorded: backlog', '≤ 25 ms', `${ms(recorded.backlogMs)} ms`, recorded.backlogMs <= 25);
    const start: ApiStart = medianStart(api.starts[0] ?? []);
    target('start beside 20,000 pods', '≤ 3 s', `${(start.totalMs / 1000).toFixed(2)} s`, start.totalMs <= 3_000);
    target('the same: longest stall', '≤ 50 ms', `${start.stallMs.toFixed(0)} ms`, start.stallMs <= 50);
    target('the same: resident memory', '≤ 180 MB', mb(start.residentBytes), start.residentBytes <= 180e6);
    target('CPU while nothing happens', '< 0.2 %', `${idlePercent.toFixed(2)} %`, idlePercent < 0.2);
    target('CPU with 100 status updates a second', '< 5 %', `${statusUpdates.percent.toFixed(2)} %`, statusUpdates.percent < 5);
    target('the same: commits', '0', String(statusUpdates.commits), statusUpdates.commits === 0);
  }
  const daemon = network?.daemons.find((each) => each.daemon === 'sluice');
  if (network !== undefined && daemon !== undefined) {
    const [first = Number.NaN] = daemon.startsMs;
    target(`${number(network.peers)} peers: all in the kernel`, '≤ 2 s', `${(first / 1000).toFixed(2)} s`, first <= 2_000);
    target('the same: a node that comes, p99', '≤ 50 ms', `${ms(daemon.join.p99)} ms`, daemon.join.p99 <= 50);
    target('the same: CPU while nothing happens', '< 0.2 %', `${daemon.idlePercent.toFixed(2)} %`, daemon.idlePercent < 0.2);
  }
  const overlay = throughput?.variants.find(({ name }) => name === OURS);
  if (overlay?.bulk.ratio !== undefined && overlay.requests.ratio !== undefined) {
    const ratios = [overlay.bulk.ratio, overlay.requests.ratio];
    const measured = ratios.map(({ median }) => median.toFixed(3)).join(' / ');
    target('vxlan stream / requests: ratio to flanneld', 'within noise', measured, ratios.every(withinNoise));
  }
  if (udpProxy !== undefined) targets.push(...udpProxyTargets(udpProxy));
  if (observe !== undefined) {
    const { median } = observe.clockRatio;
    target('10,000 refused a second, observed by two: allowed connections', '≥ 0.95 of unobserved', median.toFixed(3), median >= 0.95);
  }
  for (const { name, ms } of matrix?.cases ?? []) {
    target(`matrix of ${number(matrix?.pods ?? 0)} pods: ${name}`, '≤ 3 s', `${(ms.median / 1000).toFixed(2)} s`, ms.median <= 3000);
  }
  for (const [index, wanted] of [2_000, 1_000, 1_000].entries()) {
    const asked = explain?.cases[index];
    if (asked === undefined) continue;
    const what = `explain beside ${number(explain?.shape.pods ?? 0)} pods, from ${asked.name}`;
    target(what, `≤ ${wanted / 1000} s`, `${(asked.ms.median / 1000).toFixed(2)} s`, asked.ms.median <= wanted);
  }
  return targets;
}

type Changes = ChangesResult['changes'];

/** Of the kinds of change the one that does worst. */
function worst({ changes }: ChangesResult, value: (latencies: Changes[keyof Changes], kind: keyof Changes) => number): number {
  return Math.max(...(Object.keys(changes) as (keyof Changes)[]).map((kind) => value(changes[kind], kind)));
}

function ratioText({ median, low, high }: Spread): string {
  return `${median.toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})`;
}

function number(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function ms(value: number): string {
  return value.toFixed(2);
}

function mb(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

/** A Markdown table that reads well as it is. The first column is text, the others are to the right. */
function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((text, column) => Math.max(3, ...[header, ...rows].map((row) => (row[column] ?? '').length), text.length));
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((width, column) => (column === 0 ? (cells[column] ?? '').padEnd(width) : (cells[column] ?? '').padStart(width))).join(' | ')} |`;
  const rule = `| ${widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)).join(' | ')} |`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}
