/** The agent of one node: wires a source, the cluster, the desired rules and the kernel together. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Conntrack, Poller } from 'nftables-js';
import { Cluster } from './cluster/cluster.ts';
import { BridgeFilter } from './enforcement/bridge-filter.ts';
import { FlowSweep } from './enforcement/conntrack/flow-sweep.ts';
import { AgentClaim } from './enforcement/nftables/agent-claim.ts';
import { type NftablesOptions, NftablesEnforcement } from './enforcement/nftables/nftables-enforcement.ts';
import { Reconciler } from './enforcement/reconciler.ts';
import { systemErrorCode } from './errors.ts';
import { DisputedAddresses } from './observability/disputed-addresses.ts';
import { errorFields, type Logger } from './observability/log.ts';
import { type ListenAddress, HttpServer, type Page, text } from './observability/http-server.ts';
import { ClosedPolicies } from './observability/closed-policies.ts';
import type { AgentMetrics, InForce } from './observability/metrics.ts';
import { NamespaceModes } from './observability/namespace-modes.ts';
import { Observation } from './observability/observe/observation.ts';
import type { PolicyEvents } from './observability/policy-events.ts';
import type { MetricsAccess } from './observability/metrics-access.ts';
import { AgentStatus } from './observability/status.ts';
import { type Auditing, isAudited } from './policy/mode.ts';
import { NodeRuleset } from './ruleset/node-ruleset.ts';
import type { ObjectName } from './ruleset/objects.ts';
import type { Source, SourceProblem } from './sources/source.ts';

export interface AgentOptions {
  readonly source: Source;
  /** The name of the node whose pods are enforced. */
  readonly node: string;
  readonly log: Logger;
  readonly bridges: readonly string[];
  readonly cutMark: number;
  readonly auditing: Auditing;
  readonly nftables: Pick<NftablesOptions, 'ownership' | 'logGroup'>;
  /** Where `sluice observe` finds this agent; undefined: nowhere. */
  readonly observeSocket?: string | undefined;
  /** Rewritten after every change of the agent's state. */
  readonly statusFile: string | undefined;
  readonly healthAddress?: ListenAddress | undefined;
  readonly metrics?: AgentMetrics | undefined;
  readonly metricsAddress?: ListenAddress | undefined;
  /** Tells the authors of policies what is wrong with them; undefined: nobody but the log does. */
  readonly policyEvents?: PolicyEvents | undefined;
  /** Called once, when everything is in force for the first time. */
  readonly onReady?: (() => void) | undefined;
  /** Undefined: whoever reaches the address may read the metrics. */
  readonly metricsAccess?: MetricsAccess | undefined;
}

export interface Agent {
  /** Ends watching and enforcing; the rules stay in force. */
  stop(): Promise<void>;
}

/** How often to look for other policy engines: one that is installed later is found. */
const ENGINES_MS = 600_000;
/** How soon an agent takes over when the one before it ends. */
const CLAIM_AGAIN_MS = 100;

/** Starts enforcing, once no other agent does on this node; resolves when the source has been started (see {@link Source.start}). */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { node, log, source, metrics, policyEvents, auditing } = options;
  const status = new AgentStatus(node, auditing.mode, options.statusFile, (error) =>
    log.error(errorFields(error), 'the status file cannot be written'),
  );
  // What has been opened is closed in the reverse order, at the end or where the start fails: an agent that cannot enforce must not stay,
  // and answer that it is alive.
  await using opened = new AsyncDisposableStack();
  opened.defer(() => status.stopped());
  const claim = await claimNode(log, status);
  let servers: readonly HttpServer[] = [];
  opened.defer(() => {
    for (const server of servers) server.close();
  });
  opened.defer(() => claim.release());
  // Not before: until then the ports are the other agent's.
  servers = serve(options, status);
  const poller = new Poller();
  opened.defer(() => poller.close());
  const conntrack = Conntrack.open();
  opened.defer(() => conntrack.close());
  const cluster = new Cluster(node);
  const ruleset = new NodeRuleset(cluster, auditing);
  const enforcement = NftablesEnforcement.open({ ...options.nftables, cutMark: options.cutMark, poller, onDrift: (what) => drifted(what) });
  opened.defer(() => enforcement.close());
  status.enforcing({
    ownership: enforcement.ownership,
    logGroup: options.nftables.logGroup ?? null,
    cutMark: options.cutMark,
    bridges: options.bridges,
    auditNamespaces: auditing.namespaces,
  });
  const sweep = new FlowSweep({
    world: cluster,
    node,
    conntrack,
    cutMark: options.cutMark,
    isAudited: ({ namespace }) => isAudited(auditing, cluster.namespaceMode(namespace)),
  });
  const reconciler = new Reconciler({
    cluster,
    ruleset,
    enforcement,
    sweep,
    observer: {
      committed: (report) => {
        const { cause, operations, events, durationMs, computeMs } = report;
        const counts = { policies: cluster.policyCount, pods: cluster.podCount, activePolicies: ruleset.activePolicies };
        log.info({ cause, operations, events, computeMs: round(computeMs), commitMs: round(durationMs), ...counts }, 'rules in force');
        closed.tell();
        disputed.tell();
        status.closedPolicies(closed.keys);
        warnIfUnknown();
        status.committed(report, { nodeKnown: cluster.knowsNode, auditedPods: ruleset.auditedPods });
        metrics?.committed(report);
        announce();
      },
      failed: (error, retryMs) => {
        log.error({ ...errorFields(error), retryMs }, 'rules could not be brought into force; what the kernel had stays');
        status.failed(error);
        metrics?.failed(error);
      },
      sweepFailed: (error, retryMs) => {
        log.error({ ...errorFields(error), retryMs }, 'live flows could not be judged; some that should be cut may go on');
        status.sweepFailed(error);
        metrics?.sweepFailed();
      },
      swept: (result) => {
        const { judged, cut, restored } = result;
        if (cut + restored > 0) log.info({ judged, cut, restored }, 'live flows judged');
        status.swept(cut, restored);
        announce();
        metrics?.swept(result);
      },
    },
  });
  /** The last one told of; only one is waited with at a time. */
  let latest: string | undefined;
  const inForceSoon = (revision: string): void => {
    const isWaiting = latest !== undefined;
    latest = revision;
    if (isWaiting) return;
    void reconciler.idle().then(() => {
      const now = latest;
      latest = undefined;
      if (now !== undefined && reconciler.settled) status.inForce(now);
      // Something is going on again, and it need not be news of the source: it is waited for as well.
      else if (now !== undefined && !stopped) inForceSoon(now);
    });
  };
  let stopped = false;
  let announced = false;
  const announce = (): void => {
    if (announced || status.unready.length > 0) return;
    announced = true;
    options.onReady?.();
  };
  let warned = false;
  const warnIfUnknown = (): void => {
    if (cluster.knowsNode) warned = false;
    else if (!warned && cluster.podCount > 0) {
      warned = true;
      log.warn({ code: 'NODE_UNKNOWN' }, `no Node object and no pod names node ${node}: nothing is enforced here; is --node right?`);
    }
  };
  const closed = new ClosedPolicies({
    cluster,
    ruleset,
    log,
    tell: (origin, problem) => policyEvents?.problems(origin, [problem]),
    reread: source.reread?.bind(source),
  });
  opened.defer(() => closed.stop());
  const disputed = new DisputedAddresses(cluster, log);
  const drifted = (what: string): void => {
    log.warn({ what }, 'somebody else changed the rules; comparing');
    status.drifted();
    metrics?.drifted();
    reconciler.drifted();
  };
  const bridges = BridgeFilter.start({
    poller,
    bridges: options.bridges,
    onProblems: (problems) => {
      for (const problem of problems) log.error({ code: 'BRIDGE_NOT_FILTERED' }, problem);
      status.bridges(problems);
    },
    onRepair: (bridge) => log.warn({ bridge }, 'bridge filtering had been switched off; it is on again'),
  });
  opened.defer(() => bridges.close());

  metrics?.describe({
    inForce: () => inForce(cluster, ruleset, status),
    async *counts(policies) {
      for await (const { chain: name, ...count } of enforcement.counts(namesOf(ruleset, policies))) {
        const chain = ruleset.chains.get(name);
        if (chain !== undefined) yield { chain, ...count };
      }
    },
  });

  let isSynced = false;
  const observation =
    options.observeSocket === undefined
      ? undefined
      : new Observation({
          node,
          world: cluster,
          poller,
          log,
          logGroup: options.nftables.logGroup,
          socket: options.observeSocket,
          async *refused() {
            for await (const { chain: name, packets, verdict } of enforcement.counts(namesOf(ruleset, false))) {
              const chain = ruleset.chains.get(name);
              if (chain?.kind === 'pod')
                yield { chain: name, direction: chain.direction, pod: chain.of, packets, audited: verdict === 'accept' };
            }
          },
          isSynced: () => isSynced,
          metrics,
        });
  opened.defer(() => observation?.close());
  opened.defer(() => policyEvents?.stop());
  const engines = watchForEngines(enforcement, log);
  opened.defer(() => clearInterval(engines));
  opened.defer(() => reconciler.stop());
  policyEvents?.review(() => cluster.policiesWithPods());
  if (auditing.mode === 'audit') log.warn({ code: 'AUDIT' }, 'audit: nothing is enforced; what would be refused is counted and logged');
  /** Where the problem was that stands in the way of the whole source. */
  let lostOrigin: string | undefined;
  const problems = (origin: string, found: readonly SourceProblem[]): void => {
    for (const { severity, message, ...problem } of found)
      log[severity === 'notice' ? 'info' : severity === 'warning' ? 'warn' : 'error'](problem, message);
    status.problems(origin, found.length);
    if (origin === lostOrigin || found.some(({ code }) => code === 'SOURCE_LOST')) {
      const lost = found.find(({ code }) => code === 'SOURCE_LOST');
      lostOrigin = lost === undefined ? undefined : origin;
      status.sourceLost(lost?.message);
    }
    policyEvents?.problems(origin, found);
  };
  const namespaceModes = new NamespaceModes({ auditing, log, problems });
  opened.defer(() => source.stop());
  log.info({ ownership: enforcement.ownership }, 'reading the source');
  await source.start({
    events: (events) => {
      reconciler.push(events);
      isSynced ||= events.some(({ type }) => type === 'synced');
      policyEvents?.events(events);
      namespaceModes.events(events);
    },
    problems,
    // What has been emitted by now is in force when the reconciler has nothing left to do.
    revision: (revision) => inForceSoon(revision),
  });
  const all = opened.move();
  return {
    async stop() {
      stopped = true;
      await all.disposeAsync();
      log.info('stopped; the rules stay in force');
    },
  };
}

/** Says of each engine once that it is there too. */
function watchForEngines(enforcement: NftablesEnforcement, log: Logger): NodeJS.Timeout {
  const known = new Set<string>();
  const look = (): void => {
    try {
      for (const engine of enforcement.otherEngines()) {
        if (known.has(engine)) continue;
        known.add(engine);
        log.warn(
          { code: 'OTHER_ENGINE', engine },
          'another policy engine has rules on this node: both decide, and a packet has to be admitted by both',
        );
      }
    } catch (error) {
      log.debug(errorFields(error), 'the tables of others cannot be read');
    }
  };
  look();
  return setInterval(look, ENGINES_MS).unref();
}

/** Chains whose rules count: those of pods, and of policies where they are asked for. As of now: they may change while they are read. */
function namesOf(ruleset: NodeRuleset, policies: boolean): readonly ObjectName[] {
  return ruleset.chains
    .values()
    .filter(({ kind }) => kind === 'pod' || (policies && kind === 'policy'))
    .map(({ name }) => name)
    .toArray();
}

function inForce(cluster: Cluster, ruleset: NodeRuleset, status: AgentStatus): InForce {
  let [rules, elements] = [0, 0];
  for (const chain of ruleset.chains.values()) rules += chain.rules.length;
  for (const { size } of ruleset.sets.values()) elements += size;
  const { mode } = status;
  return {
    pods: cluster.podCount,
    policies: cluster.policyCount,
    activePolicies: ruleset.activePolicies,
    closedPolicies: new Set([...ruleset.closed.keys(), ...cluster.closedPolicies.keys()]).size,
    isolatedPods: { ingress: ruleset.isolatedPods('ingress'), egress: ruleset.isolatedPods('egress') },
    auditedPods: ruleset.auditedPods,
    enforcing: mode === 'enforce',
    chains: ruleset.chains.size,
    rules,
    sets: ruleset.sets.size,
    elements,
    ready: status.unready.length === 0,
    objectProblems: status.problemCount,
  };
}

/** The pages for probes and Prometheus. */
function serve({ log, healthAddress, metrics, metricsAddress, metricsAccess }: AgentOptions, status: AgentStatus): readonly HttpServer[] {
  const listen = (address: ListenAddress, pages: ConstructorParameters<typeof HttpServer>[0]['pages']): HttpServer =>
    new HttpServer({
      address,
      pages,
      onFault: (error) => log.warn({ ...errorFields(error), ...address }, 'a port cannot be listened on; tried again every second'),
      onError: (path, error) => log.error({ ...errorFields(error), path }, 'a page could not be made'),
    });
  const servers: HttpServer[] = [];
  if (healthAddress !== undefined) {
    servers.push(
      listen(healthAddress, {
        // Whoever gets an answer knows that the event loop moves.
        '/healthz': () => text(200, 'ok\n'),
        '/readyz': () => readiness(status),
      }),
    );
  }
  if (metrics !== undefined && metricsAddress !== undefined) {
    servers.push(
      listen(metricsAddress, { '/metrics': async (request) => (await metricsAccess?.refusal(request)) ?? (await metrics.page()) }),
    );
  }
  return servers;
}

function readiness(status: AgentStatus): Page {
  const { unready, degraded } = status;
  if (unready.length > 0) return text(503, `${[...unready, ...degraded].join('\n')}\n`);
  // Ready all the same: no tenant's policy may take a node out of service.
  return text(200, `${['ok', ...degraded].join('\n')}\n`);
}

/** Waits for another agent to end, and says so once. */
async function claimNode(log: Logger, status: AgentStatus): Promise<AgentClaim> {
  for (let isFirst = true; ; isFirst = false) {
    try {
      return AgentClaim.take();
    } catch (error) {
      if (systemErrorCode(error) !== 'AGENT_RUNNING') throw error;
      if (isFirst) {
        log.error(errorFields(error), 'waiting for the other agent of this node to end');
        status.failed(error);
      }
      await sleep(CLAIM_AGAIN_MS);
    }
  }
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
