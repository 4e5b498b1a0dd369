/**
 * Policies that isolate and admit nothing, or not all that they say, because a budget has no room for them, the kernel does not take them, or
 * making their rules failed: says so of each once, when that begins and when it ends, and has those read again that there is room for now.
 */
import type { Cluster } from '../cluster/cluster.ts';
import { errorFields, type Logger } from './log.ts';
import { firstLeftOutReason } from '../policy/budget.ts';
import type { NodeRuleset } from '../ruleset/node-ruleset.ts';
import type { SourceProblem } from '../sources/source.ts';

/** How many are read at once, and how long it is until the next, or until it is tried again. */
const REREAD_AT_ONCE = 20;
const REREAD_MS = 1_000;

export interface ClosedPoliciesOptions {
  readonly cluster: Cluster;
  readonly ruleset: NodeRuleset;
  readonly log: Logger;
  /** Tells the author of a policy. */
  readonly tell: (origin: string, problem: SourceProblem) => void;
  /** See Source.reread; undefined: nobody can read them again, and they stay closed until they change. */
  readonly reread: ((policies: Iterable<string>) => Promise<void>) | undefined;
}

interface Reason {
  readonly code: string;
  readonly message: string;
}

export class ClosedPolicies {
  readonly #options: ClosedPoliciesOptions;
  /** What has been told, by policy. */
  readonly #told = new Map<string, string>();
  #keys: readonly string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: ClosedPoliciesOptions) {
    this.#options = options;
  }

  /** `namespace/name` of each, as of the last {@link tell}. */
  get keys(): readonly string[] {
    return this.#keys;
  }

  /** Looks which there are now, and tells what is news. To be called after every commit. */
  tell(): void {
    const { ruleset, cluster, log } = this.#options;
    if (this.#told.size === 0 && ruleset.closed.size + cluster.closedPolicies.size === 0 && ruleset.leftOut.size === 0) {
      this.#keys = [];
      return;
    }
    const now = this.#reasons();
    for (const [key, { code, message }] of now) {
      if (this.#told.get(key) === message) continue;
      this.#told.set(key, message);
      const origin = `NetworkPolicy ${key}`;
      log.error({ code, object: origin }, message);
      this.#options.tell(origin, { severity: 'error', origin, object: origin, path: '', code, message });
    }
    for (const key of this.#told.keys()) {
      if (now.has(key)) continue;
      this.#told.delete(key);
      log.info({ object: `NetworkPolicy ${key}` }, 'the policy is in force as it is written');
    }
    this.#keys = [...now.keys()];
    this.#rereadSoon(0);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #reasons(): Map<string, Reason> {
    const { ruleset, cluster } = this.#options;
    const reasons = new Map<string, Reason>();
    for (const { policy, pod, direction } of ruleset.leftOut.values()) {
      const message = firstLeftOutReason(pod, direction);
      reasons.set(`${policy.namespace}/${policy.name}`, { code: 'POD_POLICIES_TOO_MANY', message });
    }
    for (const [code, closed] of [
      ['POLICY_CLOSED', ruleset.closed],
      ['NAMESPACE_TOO_LARGE', cluster.closedPolicies],
    ] as const) {
      for (const [key, reason] of closed)
        reasons.set(key, { code, message: `${reason}; it isolates the pods that it selects, and admits nothing` });
    }
    return reasons;
  }

  #rereadSoon(delayMs: number): void {
    const { cluster, reread, log } = this.#options;
    if (reread === undefined || this.#timer !== undefined || this.#stopped || cluster.unreadPolicies.size === 0) return;
    this.#timer = setTimeout(() => {
      void reread(cluster.unreadPolicies.values().take(REREAD_AT_ONCE).toArray())
        .catch((error: unknown) => {
          if (!this.#stopped) log.warn(errorFields(error), 'policies that there is room for now could not be read; tried again');
        })
        .finally(() => {
          this.#timer = undefined;
          this.#rereadSoon(REREAD_MS);
        });
    }, delayMs);
  }
}
