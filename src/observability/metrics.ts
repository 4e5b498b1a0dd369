/**
 * What Prometheus is told. Names follow https://prometheus.io/docs/practices/naming/; every label has few values, but for those of
 * `sluice_allowed_connections_total`, which has to be asked for.
 *
 * What happens is counted when it happens; what is in force is looked up when somebody asks ({@link AgentMetrics.describe}).
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { ReconcilerReport } from '../enforcement/reconciler.ts';
import type { SweepResult } from '../enforcement/conntrack/flow-sweep.ts';
import { systemErrorCode } from '../errors.ts';
import type { ListReason } from '../kubernetes/api/reflector.ts';
import type { ObjectKind } from '../kubernetes/projections.ts';
import type { DesiredChain } from '../ruleset/objects.ts';
import { AccumulatedCounts } from './accumulated-counts.ts';
import { TimeSlices } from '../time-slices.ts';
import type { Page } from './http-server.ts';
import { droppedLines } from './log-metrics.ts';

/** What is in force, as far as it is looked up. */
export interface InForce {
  readonly pods: number;
  readonly policies: number;
  readonly activePolicies: number;
  /** Of the active ones: those that isolate and admit nothing, because their rules cannot be brought into force. */
  readonly closedPolicies: number;
  readonly isolatedPods: Readonly<Record<'ingress' | 'egress', number>>;
  /** Of the isolated ones. */
  readonly auditedPods: number;
  /** False: nothing is enforced, whatever namespaces ask for. */
  readonly enforcing: boolean;
  readonly chains: number;
  readonly rules: number;
  readonly sets: number;
  readonly elements: number;
  readonly ready: boolean;
  readonly objectProblems: number;
}

export interface Described {
  inForce(): InForce;
  /** What the rules of the chains of pods have counted, and those of policies where they are asked for; of chains that are still wanted. */
  counts(policies: boolean): AsyncIterable<{
    readonly chain: DesiredChain;
    readonly place: string | undefined;
    readonly packets: number;
    /** Of a pod's chain `accept`: it is audited. */
    readonly verdict: 'accept' | 'drop';
  }>;
}

export interface MetricsOptions {
  readonly version: string;
  /** Whether to count what is admitted by policy and rule: as many series as there are rules. */
  readonly byRule: boolean;
}

/** From a hundred microseconds to ten seconds. */
const SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** A page is good for so long: whoever asks more often, or at the same time, gets the same. */
const PAGE_MS = 1_000;
/** Of a namespace so many rules are counted by themselves; the others are counted together, of a policy without a name. */
const RULES_OF_A_NAMESPACE = 1_000;

export class AgentMetrics {
  readonly #registry = new Registry();
  readonly #options: MetricsOptions;
  readonly #latency = this.#histogram(
    'sluice_event_to_kernel_seconds',
    'From the first event of the source to the commit that has it in force',
  );
  readonly #commitSeconds = this.#histogram('sluice_commit_duration_seconds', 'How long commits to the kernel took, encoding included');
  readonly #commits = this.#counter('sluice_commits_total', 'Commits, and comparisons that found nothing to do, by what caused them', [
    'cause',
  ]);
  readonly #operations = this.#counter('sluice_commit_operations_total', 'Objects, rules and elements that commits wrote or removed');
  readonly #failures = this.#counter('sluice_commit_failures_total', 'Commits that the kernel refused, by error code', ['code']);
  readonly #cut = this.#counter('sluice_connections_cut_total', 'Live connections that were cut because policy no longer allows them');
  readonly #restored = this.#counter('sluice_connections_restored_total', 'Live connections that had been cut and go on');
  readonly #sweepFailures = this.#counter('sluice_connection_sweep_failures_total', 'Times that live connections could not be judged');
  readonly #drift = this.#counter('sluice_drift_total', 'Changes of our rules by somebody else that were noticed, and repaired');
  readonly #watchErrors = this.#counter('sluice_watch_errors_total', 'Lists and watches that failed, by error code', ['resource', 'code']);
  readonly #lists = this.#counter('sluice_lists_total', 'Full lists that were asked for, by reason', ['resource', 'reason']);
  readonly #observed = this.#counter(
    'sluice_observed_total',
    'Packets refused and connections begun that were described for sluice observe',
    ['kind'],
  );
  readonly #unobserved = this.#counter(
    'sluice_unobserved_total',
    'Those that came and were not described: more than are described a second, or lost on the way (there a connection stands for any number)',
    ['kind', 'reason'],
  );
  readonly #heardAt = new Map<ObjectKind, number>();
  readonly #objects = new Map<ObjectKind, number>();
  readonly #deniedCounts = new AccumulatedCounts();
  readonly #auditedCounts = new AccumulatedCounts();
  readonly #allowedCounts = new AccumulatedCounts();
  #described: Described | undefined;
  readonly #totals: Totals[] = [];
  /** What is in force, while a page is made. */
  #inForceNow: InForce | undefined;
  #page: Promise<Page> | undefined;
  #pageAt = Number.NEGATIVE_INFINITY;

  constructor(options: MetricsOptions) {
    this.#options = options;
    // Every 10 ms, as it would be otherwise, is half of what an idle agent uses.
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: 20 });
    this.#gauge('sluice_build_info', 'Version of Sluice and of Node', ['version', 'node_version'], (gauge) =>
      gauge.set({ version: options.version, node_version: process.versions.node }, 1),
    );
    this.#gauge('sluice_ready', '1 while everything is in force', [], (gauge) => this.#describe(gauge, ({ ready }) => Number(ready)));
    this.#gauge('sluice_cluster_pods', 'Pods of the cluster that are known', [], (gauge) => this.#describe(gauge, ({ pods }) => pods));
    this.#gauge('sluice_cluster_policies', 'NetworkPolicies of the cluster', [], (gauge) =>
      this.#describe(gauge, ({ policies }) => policies),
    );
    this.#gauge('sluice_active_policies', 'NetworkPolicies that select a pod of this node', [], (gauge) =>
      this.#describe(gauge, ({ activePolicies }) => activePolicies),
    );
    this.#gauge(
      'sluice_closed_policies',
      'NetworkPolicies whose rules cannot be brought into force: they isolate, and admit nothing',
      [],
      (gauge) => this.#describe(gauge, ({ closedPolicies }) => closedPolicies),
    );
    this.#gauge('sluice_isolated_pods', 'Pods of this node that a policy isolates', ['direction'], (gauge) => {
      const isolated = this.#inForce()?.isolatedPods;
      for (const direction of ['ingress', 'egress'] as const) if (isolated !== undefined) gauge.set({ direction }, isolated[direction]);
    });
    this.#gauge('sluice_enforcing', '0 while nothing is enforced, and what would be refused is only counted (--mode audit)', [], (gauge) =>
      this.#describe(gauge, ({ enforcing }) => Number(enforcing)),
    );
    this.#gauge('sluice_audited_pods', 'Isolated pods of this node whose policies are not enforced, and only counted', [], (gauge) =>
      this.#describe(gauge, ({ auditedPods }) => auditedPods),
    );
    this.#gauge('sluice_chains', 'Chains of pods and policies in force', [], (gauge) => this.#describe(gauge, ({ chains }) => chains));
    this.#gauge('sluice_rules', 'Rules in those chains that admit or jump', [], (gauge) => this.#describe(gauge, ({ rules }) => rules));
    this.#gauge('sluice_sets', 'Sets of addresses and ports in force', [], (gauge) => this.#describe(gauge, ({ sets }) => sets));
    this.#gauge('sluice_set_elements', 'Elements of those sets', [], (gauge) => this.#describe(gauge, ({ elements }) => elements));
    this.#gauge('sluice_object_problems', 'Faults of objects that are reported', [], (gauge) =>
      this.#describe(gauge, ({ objectProblems }) => objectProblems),
    );
    this.#gauge('sluice_watch_age_seconds', 'Since the API server was last heard of', ['resource'], (gauge) => {
      for (const [resource, at] of this.#heardAt) gauge.set({ resource }, (performance.now() - at) / 1000);
    });
    this.#gauge('sluice_source_objects', 'Objects at the last full list', ['resource'], (gauge) => {
      for (const [resource, count] of this.#objects) gauge.set({ resource }, count);
    });
    const labelNames = ['namespace', 'direction'] as const;
    this.#totals.push(
      {
        name: 'sluice_denied_packets_total',
        help: 'Packets refused, by namespace of the pod that a policy isolates',
        labelNames,
        counts: this.#deniedCounts,
      },
      {
        name: 'sluice_would_be_denied_packets_total',
        help: 'Packets let through that would have been refused, by namespace of the audited pod that a policy isolates',
        labelNames,
        counts: this.#auditedCounts,
      },
    );
    if (options.byRule) {
      const help = 'Connections admitted, by rule';
      const byRule = ['namespace', 'policy', 'direction', 'rule'] as const;
      this.#totals.push({ name: 'sluice_allowed_connections_total', help, labelNames: byRule, counts: this.#allowedCounts });
    }
  }

  /** From now on, what is in force is looked up there. */
  describe(described: Described): void {
    this.#described = described;
  }

  /** How many lines of the log were dropped, looked up when somebody asks. */
  describeLog(dropped: () => number): void {
    this.#registry.registerMetric(droppedLines(dropped));
  }

  /** Made once for all who ask at the same time, and kept for a second. */
  page(): Promise<Page> {
    if (this.#page !== undefined && performance.now() - this.#pageAt < PAGE_MS) return this.#page;
    const page = this.#make();
    this.#page = page;
    // Counted from the end: one that takes long is not made twice at once.
    this.#pageAt = Number.POSITIVE_INFINITY;
    void page.then(
      () => (this.#pageAt = performance.now()),
      () => (this.#page = undefined),
    );
    return page;
  }

  async #make(): Promise<Page> {
    this.#inForceNow = undefined;
    await this.#look();
    const parts = [await this.#registry.metrics()];
    const slices = new TimeSlices();
    for (const totals of this.#totals) {
      for (const line of linesOf(totals)) {
        parts.push(line);
        await slices.pause();
      }
    }
    return { status: 200, type: this.#registry.contentType, body: parts.join('') };
  }

  committed({ cause, operations, durationMs, latencyMs }: ReconcilerReport): void {
    this.#commits.inc({ cause });
    this.#operations.inc(operations);
    this.#commitSeconds.observe(durationMs / 1000);
    if (latencyMs !== undefined && cause === 'change') this.#latency.observe(latencyMs / 1000);
  }

  failed(error: unknown): void {
    this.#failures.inc({ code: codeOf(error) });
  }

  swept({ cut, restored }: SweepResult): void {
    this.#cut.inc(cut);
    this.#restored.inc(restored);
  }

  sweepFailed(): void {
    this.#sweepFailures.inc();
  }

  drifted(): void {
    this.#drift.inc();
  }

  observed(kind: 'Denied' | 'Allowed'): void {
    this.#observed.inc({ kind: kind.toLowerCase() });
  }

  unobserved(kind: 'Denied' | 'Allowed', reason: 'sampling' | 'overrun', count = 1): void {
    this.#unobserved.inc({ kind: kind.toLowerCase(), reason }, count);
  }

  watchFailed(resource: ObjectKind, error: unknown): void {
    this.#watchErrors.inc({ resource, code: codeOf(error) });
  }

  heard(resource: ObjectKind): void {
    this.#heardAt.set(resource, performance.now());
  }

  listing(resource: ObjectKind, reason: ListReason): void {
    this.#lists.inc({ resource, reason });
  }

  listed(resource: ObjectKind, count: number): void {
    this.#objects.set(resource, count);
  }

  /** Reads the counters of all rules, and adds them up. */
  async #look(): Promise<void> {
    if (this.#described === undefined) return;
    const refusals = { drop: this.#deniedCounts.begin(), accept: this.#auditedCounts.begin() };
    const allowed = this.#allowedCounts.begin();
    const slices = new TimeSlices();
    const rules = new Map<string, number>();
    for await (const { chain, place, packets, verdict } of this.#described.counts(this.#options.byRule)) {
      const [namespace = '', name = ''] = chain.of.split('/');
      if (chain.kind === 'pod') refusals[verdict].take({ rule: chain.name, about: JSON.stringify([namespace, chain.direction]), packets });
      else if (place !== undefined && this.#options.byRule) {
        const known = (rules.get(namespace) ?? 0) + 1;
        rules.set(namespace, known);
        const about = known > RULES_OF_A_NAMESPACE ? [namespace, '', chain.direction, ''] : [namespace, name, chain.direction, place];
        allowed.take({ rule: `${chain.name} ${place}`, about: JSON.stringify(about), packets });
      }
      await slices.pause();
    }
    for (const look of [refusals.drop, refusals.accept, allowed]) look.end();
  }

  #describe(gauge: Gauge, of: (inForce: InForce) => number): void {
    const inForce = this.#inForce();
    if (inForce !== undefined) gauge.set(of(inForce));
  }

  /** The same for all metrics of a page. */
  #inForce(): InForce | undefined {
    this.#inForceNow ??= this.#described?.inForce();
    return this.#inForceNow;
  }

  #histogram(name: string, help: string): Histogram {
    return new Histogram({ name, help, buckets: SECONDS, registers: [this.#registry] });
  }

  #counter<const L extends string = never>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #gauge<const L extends string = never>(name: string, help: string, labelNames: readonly L[], collect: (gauge: Gauge<L>) => void): void {
    const gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [],
      collect() {
        collect(this);
      },
    });
    this.#registry.registerMetric(gauge);
  }
}

/** Sums that are kept under a JSON list of the values of their labels. */
interface Totals {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly counts: AccumulatedCounts;
}

/**
 * A counter in the text format of Prometheus. Not by prom-client, which writes all series of a metric at once: there are as many as a tenant has
 * rules. https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */
function* linesOf({ name, help, labelNames, counts }: Totals): Generator<string> {
  yield `\n# HELP ${name} ${help}\n# TYPE ${name} counter\n`;
  for (const [about, sum] of counts.sums()) {
    const values = JSON.parse(about) as string[];
    const labels = labelNames.map((label, index) => `${label}="${escaped(values[index] ?? '')}"`);
    yield `${name}{${labels.join(',')}} ${sum}\n`;
  }
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/** Of errors there are few codes, and many messages. */
function codeOf(error: unknown): string {
  return systemErrorCode(error) ?? 'unknown';
}
