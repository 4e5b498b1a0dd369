/**
 * One node with a pod that many policies select and that has many live flows: the process that measures. Nobody waits for a change to be judged before
 * the next is due, as nobody does in a cluster.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Conntrack, hasLabel, Poller } from 'nftables-js';
import { Cluster } from '../../src/cluster/cluster.ts';
import { CUT_LABEL, DEFAULT_CUT_MARK, FlowSweep } from '../../src/enforcement/conntrack/flow-sweep.ts';
import { NftablesEnforcement } from '../../src/enforcement/nftables/nftables-enforcement.ts';
import { Reconciler } from '../../src/enforcement/reconciler.ts';
import { Sharing } from '../../src/kubernetes/sharing.ts';
import { NodeRuleset } from '../../src/ruleset/node-ruleset.ts';
import type { SourceEvent } from '../../src/sources/source.ts';
import { upsert } from '../feed.ts';
import type { ApiObject } from '../synthetic-cluster.ts';
import { makeEntries } from './conntrack-entries.ts';
import type { Answer, MassCut, Request, Stream } from './protocol.ts';

const NODE = 'node';
/** 10.244.0.2 */
const BUSY = 0x0af40002;
/** 10.96.0.0 and on: nobody's. Four flows come from each. */
const CLIENTS = 0x0a600000;
const FLOWS_OF_A_CLIENT = 4;
const PORT = 53;
/** Until the last flow is cut the memory is looked at so often. */
const LOOK_MS = 10;

class BusyNode {
  readonly #sharing = new Sharing();
  readonly #cluster = new Cluster(NODE);
  readonly #conntrack = Conntrack.open();
  readonly #reconciler: Reconciler;
  readonly #policies: number;
  readonly #flows: number;
  #cut = 0;
  #lastCutAt = 0;
  /** Ports are never the same twice, so that each change makes a commit. */
  #port = 10_000;

  constructor(policies: number, flows: number) {
    this.#policies = policies;
    this.#flows = flows;
    const enforcement = NftablesEnforcement.open({
      ownership: 'auto',
      logGroup: 100,
      cutMark: DEFAULT_CUT_MARK,
      poller: new Poller(),
      onDrift: () => this.#reconciler.drifted(),
    });
    this.#reconciler = new Reconciler({
      cluster: this.#cluster,
      ruleset: new NodeRuleset(this.#cluster),
      enforcement,
      sweep: new FlowSweep({ world: this.#cluster, node: NODE, conntrack: this.#conntrack, cutMark: DEFAULT_CUT_MARK }),
      observer: {
        committed: () => undefined,
        failed: fail,
        swept: ({ cut }) => {
          this.#cut += cut;
          if (cut > 0) this.#lastCutAt = performance.now();
        },
        sweepFailed: fail,
      },
    });
  }

  async start(): Promise<number> {
    const objects = [pod('tenant', 'busy', '10.244.0.2'), pod('victim', 'quiet', '10.244.0.3'), this.#policy('victim', 'p', 80)];
    for (let index = 0; index < this.#policies - 1; index++) objects.push(this.#policy('tenant', `p${index}`, 1_000 + index));
    // The last by name.
    objects.push(this.#policy('tenant', 'z', PORT));
    this.#reconciler.push([...objects.map((object) => upsert(object, this.#sharing)), { type: 'synced' }]);
    await this.#settle();
    makeEntries(this.#flows, (index) => ({
      from: { address: CLIENTS + Math.floor(index / FLOWS_OF_A_CLIENT), port: 1024 + (index % FLOWS_OF_A_CLIENT) },
      to: { address: BUSY, port: PORT },
    }));
    await this.changes('tenant', 20, 20);
    return this.#conntrack.count().entries;
  }

  /** Each is due so long after the one before; what is not asked of one is whether the one before has been judged. */
  async changes(namespace: 'tenant' | 'victim', count: number, everyMs: number): Promise<Stream> {
    const stream = await this.#stream(namespace, everyMs, (done) => done >= count);
    await this.#settle();
    return stream;
  }

  async massCut(everyMs: number): Promise<MassCut> {
    await this.#settle();
    this.#cut = 0;
    const beforeBytes = process.memoryUsage.rss();
    let peakBytes = beforeBytes;
    const looks = setInterval(() => (peakBytes = Math.max(peakBytes, process.memoryUsage.rss())), LOOK_MS);
    const startedAt = performance.now();
    this.#push(this.#policy('tenant', 'z', 9_999));
    // Others go on until some time after the last cut, so that all of it is in their way.
    const others = await this.#stream('victim', everyMs, () => this.#cut >= this.#flows && performance.now() - this.#lastCutAt > 500);
    clearInterval(looks);
    await this.#settle();
    let cut = 0;
    for (const flow of this.#conntrack.flows()) if (hasLabel(flow, CUT_LABEL)) cut++;
    const lastCutMs = this.#lastCutAt - startedAt;
    this.#push(this.#policy('tenant', 'z', PORT));
    await this.#settle();
    return { others, lastCutMs, cut, beforeBytes, peakBytes };
  }

  async #stream(namespace: 'tenant' | 'victim', everyMs: number, isOver: (done: number) => boolean): Promise<Stream> {
    const latenciesMs: number[] = [];
    let longestStallMs = 0;
    const startedAt = performance.now();
    for (let index = 1; !isOver(latenciesMs.length); index++) {
      const dueAt = startedAt + index * everyMs;
      await sleep(Math.max(0, dueAt - performance.now()));
      // A timer comes within a millisecond of its time. Before it nothing is due.
      const late = Math.max(0, performance.now() - dueAt);
      longestStallMs = Math.max(longestStallMs, late);
      const name = namespace === 'victim' ? 'p' : `p${index % (this.#policies - 1)}`;
      this.#push(this.#policy(namespace, name, this.#nextPort()));
      latenciesMs.push(Math.max(0, performance.now() - dueAt));
    }
    return { latenciesMs, longestStallMs };
  }

  /** The kernel has answered when it returns: a small change is committed within it. */
  #push(object: ApiObject): void {
    const event: SourceEvent = upsert(object, this.#sharing);
    this.#reconciler.push([event]);
    if (!this.#reconciler.settled) throw new Error('a change was not committed at once');
  }

  #nextPort(): number {
    this.#port = this.#port >= 60_000 ? 10_000 : this.#port + 1;
    return this.#port;
  }

  #policy(namespace: string, name: string, port: number): ApiObject {
    const spec = {
      podSelector: {},
      policyTypes: ['Ingress'],
      ingress: [
        {
          ports: [{ protocol: 'UDP', port }],
          from: [{ ipBlock: { cidr: '10.0.0.0/8' } }, { podSelector: { matchLabels: { app: name } } }],
        },
      ],
    };
    return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { namespace, name }, spec } as unknown as ApiObject;
  }

  /** Nothing is going on, the second look at what was touched included. */
  async #settle(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      await this.#reconciler.idle();
      await sleep(100);
    }
    await this.#reconciler.idle();
  }
}

function pod(namespace: string, name: string, ip: string): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name, uid: `${namespace}-${name}`, labels: { app: name } },
    spec: { nodeName: NODE, containers: [] },
    status: { phase: 'Running', podIPs: [{ ip }] },
  } as unknown as ApiObject;
}

function fail(error: unknown): never {
  console.error(error);
  process.exit(1);
}

let node: BusyNode | undefined;

async function answer(request: Request): Promise<Answer> {
  if ('start' in request) {
    node = new BusyNode(request.start.policies, request.start.flows);
    return { started: { flows: await node.start() } };
  }
  if (node === undefined) throw new Error('nothing has been started');
  if ('cut' in request) return { massCut: await node.massCut(request.cut.everyMs) };
  return { stream: await node.changes('tenant', request.changes, request.everyMs) };
}

process.on('message', (request: Request) => {
  answer(request).then((message) => process.send?.(message), fail);
});
process.once('disconnect', () => process.exit());
