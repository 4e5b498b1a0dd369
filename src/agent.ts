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
import { errorFields, type Logger } from './observability/log.ts';
import { AgentStatus } from './observability/status.ts';
import { NodeRuleset } from './ruleset/node-ruleset.ts';
import type { Source } from './sources/source.ts';

export interface AgentOptions {
  readonly source: Source;
  /** The name of the node whose pods are enforced. */
  readonly node: string;
  readonly log: Logger;
  readonly bridges: readonly string[];
  readonly cutMark: number;
  readonly nftables: Pick<NftablesOptions, 'ownership' | 'logGroup'>;
  /** Rewritten after every change of the agent's state. */
  readonly statusFile: string | undefined;
}

export interface Agent {
  /** Ends watching and enforcing; the rules stay in force. */
  stop(): Promise<void>;
}

/** How soon an agent takes over when the one before it ends. */
const CLAIM_AGAIN_MS = 100;

/** Starts enforcing, once no other agent does on this node; resolves when the source has been read once. */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { node, log, source } = options;
  const status = new AgentStatus(node, options.statusFile, (error) => log.error(errorFields(error), 'the status file cannot be written'));
  const claim = await claimNode(log, status);
  const poller = new Poller();
  const conntrack = Conntrack.open();
  const cluster = new Cluster(node);
  const ruleset = new NodeRuleset(cluster);
  const enforcement = NftablesEnforcement.open({ ...options.nftables, cutMark: options.cutMark, poller, onDrift: (what) => drifted(what) });
  const sweep = new FlowSweep({ world: cluster, node, conntrack, cutMark: options.cutMark });
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
        warnIfUnknown();
        status.committed(report, cluster.knowsNode);
      },
      failed: (error, retryMs) => {
        log.error({ ...errorFields(error), retryMs }, 'rules could not be brought into force; what the kernel had stays');
        status.failed(error);
      },
      sweepFailed: (error, retryMs) => {
        log.error({ ...errorFields(error), retryMs }, 'live flows could not be judged; some that should be cut may go on');
        status.sweepFailed(error);
      },
      swept: ({ judged, cut, restored }) => {
        if (cut + restored > 0) log.info({ judged, cut, restored }, 'live flows judged');
        status.swept(cut, restored);
      },
    },
  });
  let warned = false;
  const warnIfUnknown = (): void => {
    if (cluster.knowsNode) warned = false;
    else if (!warned && cluster.podCount > 0) {
      warned = true;
      log.warn({ code: 'NODE_UNKNOWN' }, `no Node object and no pod names node ${node}: nothing is enforced here; is --node right?`);
    }
  };
  const drifted = (what: string): void => {
    log.warn({ what }, 'somebody else changed the rules; comparing');
    status.drifted();
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

  log.info({ ownership: enforcement.ownership }, 'reading the source');
  await source.start({
    events: (events) => reconciler.push(events),
    problems: (origin, problems) => {
      for (const { severity, message, ...problem } of problems)
        log[severity === 'notice' ? 'info' : severity === 'warning' ? 'warn' : 'error'](problem, message);
      status.problems(origin, problems.length);
    },
    // What has been emitted by now is in force when the reconciler has nothing left to do.
    revision: (revision) => void reconciler.idle().then(() => reconciler.settled && status.inForce(revision)),
  });
  return {
    async stop() {
      await source.stop();
      await reconciler.stop();
      bridges.close();
      enforcement.close();
      conntrack.close();
      poller.close();
      claim.release();
      status.stopped();
      log.info('stopped; the rules stay in force');
    },
  };
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
