/**
 * What `sluice observe` costs those who are allowed, while others are refused without end: connections a second between two pods of a
 * node, with a flood of refused ones from a third to many others; with nobody watching, and with two who do. All in turns, in one run.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { directorySource, LabAgents } from '../../src/lab/agents.ts';
import { Lab } from '../../src/lab/lab.ts';
import { type Address, familyOf, formatAddress } from '../../src/policy/address.ts';
import { Load } from '../forwarding/load.ts';
import { type Spread, spread } from '../statistics.ts';
import { Flood } from './flood.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const NODE = 'bench';
const PORT = 4000;
const OBSERVERS = [
  ['-o', 'table'],
  ['-o', 'json', '--suggest'],
] as const;
/** After each change of what goes on. */
const SETTLE_MS = 500;
/** Of /proc/PID/stat; the same on every Linux that Node runs on. */
const TICKS_A_SECOND = 100;

export interface ObservePlan {
  readonly rounds: number;
  /** How long each state is measured in a round; what nobody is refused in, half of it. */
  readonly sliceMs: number;
  readonly refusedPerSecond: number;
  /** Pods that refuse: each logs ten packets a second. */
  readonly refusingPods: number;
}

export const OBSERVE_PLAN: ObservePlan = { rounds: 30, sliceMs: 3_000, refusedPerSecond: 10_000, refusingPods: 40 };
export const QUICK_OBSERVE_PLAN: ObservePlan = { rounds: 1, sliceMs: 300, refusedPerSecond: 1_000, refusingPods: 3 };

export const STATES = ['nobody is refused', 'a flood is refused', 'the same, two observe'] as const;
type State = (typeof STATES)[number];

export interface ObserveStateResult {
  readonly state: State;
  /** Allowed connections a second by the clock, and for a second of CPU time of those who make them. */
  readonly perSecond: Spread;
  readonly perCpuSecond: Spread;
  readonly refusedPerSecond: Spread;
  /** Of one core, %. */
  readonly agentCpu: Spread;
  readonly observersCpu: Spread;
  readonly failures: number;
}

export interface ObserveResult {
  readonly plan: ObservePlan;
  readonly states: readonly ObserveStateResult[];
  /** With two who observe, to the flood that nobody observes, before and after it. */
  readonly clockRatio: Spread;
  readonly ratio: Spread;
  /** Records a second that one observer was shown. */
  readonly shownPerSecond: number;
}

interface Measured {
  readonly perSecond: number[];
  readonly perCpuSecond: number[];
  readonly refusedPerSecond: number[];
  readonly agentCpu: number[];
  readonly observersCpu: number[];
  failures: number;
}

export async function measureObserve(plan: ObservePlan, progress: (text: string) => void): Promise<ObserveResult> {
  const refusing = Array.from({ length: plan.refusingPods }, (_, index) => `refusing-${index}`);
  const pods = ['client', 'server', 'flooding', ...refusing].map((name) => ({ namespace: 'shop', name, node: NODE }));
  progress(`setting up ${pods.length} pods`);
  const lab = await Lab.create({ nodes: [{ name: NODE }], pods });
  const state = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  let agents: LabAgents | undefined;
  let load: Load | undefined;
  let flood: Flood | undefined;
  try {
    const directory = join(state, 'cluster');
    mkdirSync(directory);
    writeFileSync(join(directory, 'cluster.json'), JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects(lab) }));
    agents = await LabAgents.start(lab, { source: directorySource(directory), state });
    const ipv4 = (pod: string): Address => {
      const address = lab.addresses(`shop/${pod}`).find((each) => familyOf(each) === 4);
      if (address === undefined) throw new Error(`${pod} has no IPv4 address`);
      return address;
    };
    load = await Load.start([{ client: lab.netns('shop/client'), server: lab.netns('shop/server'), address: ipv4('server'), port: PORT }]);
    flood = new Flood({ netns: lab.netns('shop/flooding'), targets: refusing.map(ipv4), port: PORT, perSecond: plan.refusedPerSecond });
    return await measureInTurns(plan, { lab, load, flood, agent: agents.pid(NODE), socket: join(state, `${NODE}.observe.sock`) }, progress);
  } finally {
    await load?.close();
    await flood?.close();
    await agents?.endAll();
    await lab.close();
    rmSync(state, { recursive: true });
  }
}

interface Scene {
  readonly lab: Lab;
  readonly load: Load;
  readonly flood: Flood;
  /** Process id. */
  readonly agent: number;
  readonly socket: string;
}

/**
 * What is observed is measured between two halves of what is not, and compared with both: what else the machine does rises and falls. Ahead
 * of each half the observers are started and ended as well, so that all of them follow the same work.
 */
const TURNS: readonly { readonly state: State; readonly share: number }[] = [
  { state: 'nobody is refused', share: 1 / 2 },
  { state: 'a flood is refused', share: 1 / 2 },
  { state: 'the same, two observe', share: 1 },
  { state: 'a flood is refused', share: 1 / 2 },
];

async function measureInTurns(plan: ObservePlan, scene: Scene, progress: (text: string) => void): Promise<ObserveResult> {
  const measured = new Map(
    STATES.map((state): [State, Measured] => [
      state,
      { perSecond: [], perCpuSecond: [], refusedPerSecond: [], agentCpu: [], observersCpu: [], failures: 0 },
    ]),
  );
  const clockRatios: number[] = [];
  const ratios: number[] = [];
  let shown = 0;
  let observedMs = 0;
  for (let round = 0; round <= plan.rounds; round++) {
    if (round % Math.ceil(plan.rounds / 10) === 0) progress(round === 0 ? 'warming up' : `round ${round} of ${plan.rounds}`);
    for (const { state, share } of TURNS) {
      scene.flood.flooding = true;
      const started = await startObservers(scene);
      const isObserved = state === 'the same, two observe';
      if (!isObserved) await Promise.all(started.map((observer) => observer.end()));
      const observers = isObserved ? started : [];
      scene.flood.flooding = state !== 'nobody is refused';
      await sleep(SETTLE_MS);
      const cpuMs = (): number => observers.reduce((sum, { pid }) => sum + cpuMsOf(pid), 0);
      const before = {
        shown: observers[1]?.lines ?? 0,
        at: performance.now(),
        refused: scene.flood.started,
        agentMs: cpuMsOf(scene.agent),
        observersMs: cpuMs(),
      };
      const { perSecond, perCpuSecond, failures } = await scene.load.run(0, plan.sliceMs * share);
      const elapsedMs = performance.now() - before.at;
      const of = measured.get(state);
      // The first round warms up.
      if (of !== undefined && round > 0) {
        of.perSecond.push(perSecond);
        of.perCpuSecond.push(perCpuSecond);
        of.refusedPerSecond.push(((scene.flood.started - before.refused) * 1000) / elapsedMs);
        of.agentCpu.push(((cpuMsOf(scene.agent) - before.agentMs) * 100) / elapsedMs);
        of.observersCpu.push(((cpuMs() - before.observersMs) * 100) / elapsedMs);
        of.failures += failures;
        if (observers[1] !== undefined) {
          shown += observers[1].lines - before.shown;
          observedMs += elapsedMs;
        }
      }
      await Promise.all(observers.map((observer) => observer.end()));
    }
    if (round === 0) continue;
    clockRatios.push(ratioOf(measured, (of) => of.perSecond));
    ratios.push(ratioOf(measured, (of) => of.perCpuSecond));
  }
  return {
    plan,
    states: [...measured].map(([state, of]) => ({
      state,
      perSecond: spread(of.perSecond),
      perCpuSecond: spread(of.perCpuSecond),
      refusedPerSecond: spread(of.refusedPerSecond),
      agentCpu: spread(of.agentCpu),
      observersCpu: spread(of.observersCpu),
      failures: of.failures,
    })),
    clockRatio: spread(clockRatios),
    ratio: spread(ratios),
    shownPerSecond: (shown * 1000) / observedMs,
  };
}

/** Of the last round: what was observed, to the mean of the two halves around it. */
function ratioOf(measured: ReadonlyMap<State, Measured>, pick: (of: Measured) => readonly number[]): number {
  const last = (state: State, back: number): number => {
    const of = measured.get(state);
    return of === undefined ? Number.NaN : (pick(of).at(-back) ?? Number.NaN);
  };
  return last('the same, two observe', 1) / ((last('a flood is refused', 1) + last('a flood is refused', 2)) / 2);
}

interface Observer {
  readonly pid: number;
  /** Lines that it has printed. */
  readonly lines: number;
  end(): Promise<void>;
}

/** Resolves when each of them has shown something. */
function startObservers({ lab, socket }: Scene): Promise<Observer[]> {
  return Promise.all(
    OBSERVERS.map(async (args) => {
      const child: ChildProcess = lab.spawn(`node/${NODE}`, [process.execPath, PROGRAM, 'observe', '--socket', socket, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let lines = 0;
      const { promise: first, resolve } = Promise.withResolvers<void>();
      child.stdout?.on('data', (bytes: Uint8Array) => {
        for (const byte of bytes) if (byte === 0x0a) lines++;
        resolve();
      });
      const ended = new Promise<void>((end) => {
        child.once('close', () => end());
      });
      await Promise.race([first, ended.then(() => Promise.reject(new Error('sluice observe ended')))]);
      return {
        pid: child.pid ?? 0,
        get lines() {
          return lines;
        },
        async end() {
          child.kill('SIGINT');
          await ended;
        },
      };
    }),
  );
}

/** CPU time of a process so far: fields 14 and 15 of /proc/PID/stat (proc(5)), counted from behind the name, which may hold blanks. */
function cpuMsOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_A_SECOND;
}

/** The pods of the lab, and a policy that closes those that refuse. */
function objects(lab: Lab): unknown[] {
  return [
    ...lab.pods.map((pod) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: pod.namespace, name: pod.name, labels: { app: pod.name.split('-')[0] ?? '' } },
      spec: { nodeName: pod.node, containers: [] },
      status: { phase: 'Running', podIPs: pod.addresses.map((address) => ({ ip: formatAddress(address) })) },
    })),
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: 'shop', name: 'closed' },
      spec: { podSelector: { matchLabels: { app: 'refusing' } }, policyTypes: ['Ingress'] },
    },
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: 'shop', name: 'server' },
      spec: { podSelector: { matchLabels: { app: 'server' } }, ingress: [{ from: [{ podSelector: { matchLabels: { app: 'client' } } }] }] },
    },
  ];
}
