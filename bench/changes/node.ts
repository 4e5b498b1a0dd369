/**
 * One node, its kernel included, whose cluster is changed object by object: the process that measures. It runs in a network namespace
 * of its own, and does what it is told over its IPC channel, so that nodes of different clusters can be measured in turns.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Conntrack, Poller } from 'nftables-js';
import { Cluster } from '../../src/cluster/cluster.ts';
import { DEFAULT_CUT_MARK, FlowSweep } from '../../src/enforcement/conntrack/flow-sweep.ts';
import type { CommitReport, Enforcement } from '../../src/enforcement/enforcement.ts';
import { NftablesEnforcement } from '../../src/enforcement/nftables/nftables-enforcement.ts';
import { Reconciler } from '../../src/enforcement/reconciler.ts';
import { Sharing } from '../../src/kubernetes/sharing.ts';
import { NodeRuleset } from '../../src/ruleset/node-ruleset.ts';
import type { Ruleset, RulesetChanges } from '../../src/ruleset/objects.ts';
import type { SourceEvent } from '../../src/sources/source.ts';
import { pages, upsert } from '../feed.ts';
import { type ApiObject, type ClusterShape, LOCAL_NODE, SyntheticCluster } from '../synthetic-cluster.ts';
import type { Answer, ChangeKind, NodeDescription, Request, Sample } from './protocol.ts';

/** How many places in the cluster each kind of change is made at, in turn. */
const PLACES = 30;
/** A node has started when nothing has happened for these many times that long. */
const QUIET_LOOKS = 5;
const QUIET_MS = 100;

/** A change that makes a commit, and the one that takes it back. */
interface Place {
  readonly change: () => SourceEvent;
  readonly undo: () => SourceEvent;
}

/** An enforcement that remembers when its last commit by differences was over. */
class TimedEnforcement implements Enforcement {
  readonly #enforcement: Enforcement;
  commits = 0;
  endedAt = 0;
  durationMs = 0;
  operations = 0;

  constructor(enforcement: Enforcement) {
    this.#enforcement = enforcement;
  }

  synchronize(ruleset: Ruleset): Promise<CommitReport> {
    return this.#enforcement.synchronize(ruleset);
  }

  commit(changes: RulesetChanges): CommitReport | Promise<CommitReport> {
    const pending = this.#enforcement.commit(changes);
    return pending instanceof Promise ? pending.then((report) => this.#note(report)) : this.#note(pending);
  }

  close(): void {
    this.#enforcement.close();
  }

  #note(report: CommitReport): CommitReport {
    this.endedAt = performance.now();
    this.commits++;
    this.durationMs = report.durationMs;
    this.operations = report.operations;
    return report;
  }
}

class MeasuredNode {
  readonly #synthetic: SyntheticCluster;
  readonly #sharing = new Sharing();
  readonly #cluster = new Cluster(LOCAL_NODE);
  readonly #ruleset = new NodeRuleset(this.#cluster);
  readonly #reconciler: Reconciler;
  readonly #places = new Map<ChangeKind, readonly Place[]>();
  readonly #enforcement: TimedEnforcement;
  #computeMs = 0;
  #nextPod: number;

  constructor(shape: ClusterShape) {
    this.#synthetic = new SyntheticCluster(shape);
    this.#nextPod = Math.ceil(shape.pods / this.#synthetic.nodes) * this.#synthetic.nodes;
    const poller = new Poller();
    this.#enforcement = new TimedEnforcement(
      NftablesEnforcement.open({
        ownership: 'auto',
        logGroup: 100,
        cutMark: DEFAULT_CUT_MARK,
        poller,
        // Nobody else is here, but the first commit of a large node overruns the monitor.
        onDrift: () => this.#reconciler.drifted(),
      }),
    );
    this.#reconciler = new Reconciler({
      cluster: this.#cluster,
      ruleset: this.#ruleset,
      enforcement: this.#enforcement,
      sweep: new FlowSweep({ world: this.#cluster, node: LOCAL_NODE, conntrack: Conntrack.open(), cutMark: DEFAULT_CUT_MARK }),
      observer: {
        committed: ({ computeMs }) => {
          this.#computeMs = computeMs;
        },
        failed: fail,
        swept: () => undefined,
        sweepFailed: fail,
      },
    });
  }

  async start(): Promise<NodeDescription> {
    for (const page of pages(this.#synthetic.objects(), this.#sharing)) this.#reconciler.push(page);
    this.#reconciler.push([{ type: 'synced' }]);
    // A monitor that ran over says so when the kernel's answer has been waited for already.
    for (let quiet = 0; quiet < QUIET_LOOKS; quiet++) {
      await this.#reconciler.idle();
      await sleep(QUIET_MS);
      if (!this.#reconciler.settled) quiet = 0;
    }
    return {
      shape: this.#synthetic.shape,
      isolatedPods: new Set([...this.#ruleset.verdicts.ingress.values(), ...this.#ruleset.verdicts.egress.values()]).size,
      activePolicies: this.#ruleset.activePolicies,
      sets: this.#ruleset.sets.size,
      chains: this.#ruleset.chains.size,
    };
  }

  /** Each event is measured on its own; what takes it back is not. */
  async measure(kind: ChangeKind, events: number): Promise<Sample[]> {
    const places = this.#places.get(kind) ?? (await this.#findPlaces(kind, Math.min(events, PLACES)));
    this.#places.set(kind, places);
    const samples: Sample[] = [];
    for (let event = 0; event < events; event++) {
      const place = places[event % places.length];
      if (place === undefined) throw new Error(`there is nothing on this node that "${kind}" would change`);
      const sample = await this.#push(place.change());
      if (sample === undefined) throw new Error(`"${kind}" made no commit the second time`);
      samples.push(sample);
      await this.#push(place.undo());
      // Timers and messages get their turn, as they would between events.
      await new Promise(setImmediate);
    }
    return samples;
  }

  /** Undefined: nothing had to be committed. */
  async #push(event: SourceEvent): Promise<Sample | undefined> {
    const commits = this.#enforcement.commits;
    const started = performance.now();
    this.#reconciler.push([event]);
    await this.#reconciler.idle();
    const busy = performance.now() - started;
    if (this.#enforcement.commits === commits) return undefined;
    const { endedAt, durationMs, operations } = this.#enforcement;
    return { total: endedAt - started, compute: this.#computeMs, commit: durationMs, busy, operations };
  }

  /** Tries candidates, and keeps those that change what this node enforces. */
  async #findPlaces(kind: ChangeKind, count: number): Promise<readonly Place[]> {
    const places: Place[] = [];
    for (const place of this.#candidates(kind)) {
      if ((await this.#push(place.change())) !== undefined) places.push(place);
      await this.#push(place.undo());
      if (places.length === count) break;
    }
    return places;
  }

  *#candidates(kind: ChangeKind): Generator<Place> {
    const { shape, nodes } = this.#synthetic;
    // Along the local pods: what is in their namespaces is likely to matter to them.
    const stride = Math.max(1, Math.floor(shape.localPods / PLACES));
    for (let local = 0; local < shape.localPods; local += local % stride === stride - 1 ? 1 : stride) {
      const workload = Math.floor((local * nodes) / 10);
      const namespace = this.#synthetic.namespaceOf(workload);
      if (kind === 'pod here' || kind === 'pod elsewhere') {
        const isHere = kind === 'pod here' || nodes === 1;
        const pod = this.#synthetic.pod(this.#nextPod + (isHere ? 0 : 1), workload);
        yield { change: () => this.#upsert(pod), undo: () => deletion(pod) };
      } else {
        for (let index = namespace; index < shape.policies; index += shape.namespaces) {
          const policy = this.#synthetic.policy(index);
          const other = kind === 'ports of a policy' ? this.#synthetic.policy(index, 1) : withOtherPeers(policy);
          if (other !== undefined) yield { change: () => this.#upsert(other), undo: () => this.#upsert(policy) };
        }
      }
    }
  }

  #upsert(object: ApiObject): SourceEvent {
    return upsert(object, this.#sharing);
  }
}

/** The policy with one more requirement of the peers of its first ingress rule; undefined where that has no selector. */
function withOtherPeers(policy: ApiObject): ApiObject | undefined {
  const spec = structuredClone(policy['spec']) as { ingress?: { from?: { podSelector?: { matchLabels?: Record<string, string> } }[] }[] };
  const labels = spec.ingress?.[0]?.from?.[0]?.podSelector?.matchLabels;
  if (labels === undefined) return undefined;
  labels['app.kubernetes.io/name'] = labels['app'] ?? '';
  return { ...policy, spec };
}

function deletion({ kind, metadata }: ApiObject): SourceEvent {
  return { type: 'delete', kind, key: `${metadata.namespace}/${metadata.name}` };
}

function fail(error: unknown): never {
  console.error(error);
  process.exit(1);
}

let node: MeasuredNode | undefined;

async function answer(request: Request): Promise<Answer> {
  if ('start' in request) {
    node = new MeasuredNode(request.start);
    return { started: await node.start() };
  }
  if (node === undefined) throw new Error('nothing has been started');
  return { samples: await node.measure(request.measure, request.events) };
}

process.on('message', (request: Request) => {
  answer(request).then((message) => process.send?.(message), fail);
});
process.once('disconnect', () => process.exit());
