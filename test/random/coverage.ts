/** What a run of random clusters has shown with packets: per misreading how many probes went the right way, and what they were. */
import { type Misreading, MISREADINGS } from './misreadings.ts';
import type { Expectation, Probe } from './probes.ts';

/** What no probe of this test shows, and what does instead. */
export const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ['row 27', 'live flows when policies change: test/kernel/agent/flows.test.ts, earlier-flows.test.ts'],
  ['row 32', 'errors about a flow: test/kernel/agent/rows-icmp.test.ts'],
  ['row 35', 'the first packet of a pod that has just come: test/kernel/agent/rows-pods.test.ts'],
  ['rows 41–45', 'who may speak as whom: not enforced yet'],
  ['row 46', 'what counts as related: test/kernel/agent/rows-icmp.test.ts'],
]);

export class ShownRows {
  #probes = 0;
  #allowed = 0;
  readonly #shown = new Map<Misreading, { probes: number; states: number }>();
  readonly #kinds = new Map<string, { allowed: number; denied: number }>();
  #shownInState = new Set<Misreading>();

  /** A probe that went as expected. */
  count(probe: Probe, { allowed, egress, ingress }: Expectation, misreadings: readonly Misreading[]): void {
    this.#probes++;
    if (allowed) this.#allowed++;
    for (const misreading of misreadings) {
      const shown = this.#shown.get(misreading) ?? { probes: 0, states: 0 };
      shown.probes++;
      if (!this.#shownInState.has(misreading)) shown.states++;
      this.#shownInState.add(misreading);
      this.#shown.set(misreading, shown);
    }
    const judged = [
      ...(egress.allowed && egress.reason !== 'admitted' ? [] : ['judged at egress']),
      ...(ingress.allowed && ingress.reason !== 'admitted' ? [] : ['judged at ingress']),
    ];
    for (const kind of [`IPv${probe.family}`, probe.protocol, probe.path, probe.through, ...judged]) {
      const of = this.#kinds.get(kind) ?? { allowed: 0, denied: 0 };
      of[allowed ? 'allowed' : 'denied']++;
      this.#kinds.set(kind, of);
    }
  }

  /** A state of the cluster has been probed. */
  endState(): void {
    this.#shownInState = new Set();
  }

  shown(misreading: Misreading): number {
    return this.#shown.get(misreading)?.probes ?? 0;
  }

  /** What should have been probed, allowed and denied, and was not. */
  missing(): string[] {
    const rows = MISREADINGS.filter((misreading) => this.shown(misreading) === 0).map(({ row, reading }) => `row ${row}: ${reading}`);
    const kinds = KINDS.flatMap(([kind, verdicts]) =>
      verdicts.filter((verdict) => (this.#kinds.get(kind)?.[verdict] ?? 0) === 0).map((verdict) => `${kind}: nothing was ${verdict}`),
    );
    return [...rows, ...kinds];
  }

  report(): string {
    const lines = [`${this.#probes} probes as expected: ${this.#allowed} allowed, ${this.#probes - this.#allowed} denied`, ''];
    for (const [kind] of KINDS) {
      const { allowed, denied } = this.#kinds.get(kind) ?? { allowed: 0, denied: 0 };
      lines.push(`  ${kind.padEnd(20)}${String(allowed).padStart(7)} allowed${String(denied).padStart(7)} denied`);
    }
    lines.push('', '  row  states  probes  that would have gone the other way if');
    for (const misreading of MISREADINGS) {
      const { probes, states } = this.#shown.get(misreading) ?? { probes: 0, states: 0 };
      lines.push(
        `  ${String(misreading.row).padStart(3)}${String(states).padStart(8)}${String(probes).padStart(8)}  ${misreading.reading}`,
      );
    }
    lines.push('', '  not shown here:');
    for (const [rows, where] of ELSEWHERE) lines.push(`  ${rows}: ${where}`);
    return lines.join('\n');
  }
}

type Decision = 'allowed' | 'denied';
const BOTH: readonly Decision[] = ['allowed', 'denied'];
/** Nothing that stays on the node, and nothing that a pod sends to itself, is ever denied (rows 28, 30). */
const KINDS: readonly (readonly [kind: string, verdicts: readonly Decision[]])[] = [
  ['IPv4', BOTH],
  ['IPv6', BOTH],
  ['TCP', BOTH],
  ['UDP', BOTH],
  ['SCTP', BOTH],
  ['ICMP', BOTH],
  ['judged at egress', BOTH],
  ['judged at ingress', BOTH],
  ['same node', BOTH],
  ['across nodes', BOTH],
  ['outside', BOTH],
  ['other node', BOTH],
  ['own node', ['allowed']],
  ['itself', ['allowed']],
  ['directly', BOTH],
  ['DNAT', BOTH],
  ['DNAT and masquerade', BOTH],
];
