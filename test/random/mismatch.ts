/** A probe that did not go as the evaluator says, with what is needed to understand it and to see it again. */
import type { ProbeResult } from '../../src/lab/prober/protocol.ts';
import { type Address, formatAddress } from '../../src/policy/address.ts';
import type { DirectionVerdict } from '../../src/policy/evaluate.ts';
import type { ApiObject } from './cluster.ts';
import { manifestOf, objectName } from './lab-cluster.ts';
import type { Misreading } from './misreadings.ts';
import type { Expectation, Probe } from './probes.ts';
import { worldFrom } from './world.ts';

export class Mismatch {
  readonly seed: number;
  readonly #state: string;
  readonly #probe: Probe;
  readonly #expectation: Expectation;
  readonly #result: ProbeResult;
  readonly #objects: readonly ApiObject[];
  readonly #shows: readonly Misreading[];

  constructor(
    seed: number,
    state: string,
    probe: Probe,
    expectation: Expectation,
    result: ProbeResult,
    objects: readonly ApiObject[],
    shows: readonly Misreading[],
  ) {
    this.seed = seed;
    this.#state = state;
    this.#probe = probe;
    this.#expectation = expectation;
    this.#result = result;
    this.#objects = objects;
    this.#shows = shows;
  }

  /** The first in full, the others in a line. */
  static describeAll(mismatches: readonly Mismatch[]): string {
    const [first, ...others] = mismatches;
    if (first === undefined) return '';
    const rest = others.slice(0, 20).map((each) => `  ${each.#summary()}`);
    const more = others.length > 20 ? [`  and ${others.length - 20} more`] : [];
    return [
      `${mismatches.length} probes did not go as the evaluator says`,
      first.#describe(),
      ...(rest.length > 0 ? ['The others:'] : []),
      ...rest,
      ...more,
    ].join('\n');
  }

  #summary(): string {
    const { from, to, protocol, port, family, through } = this.#probe;
    const { measured, detail, answeredBy } = this.#result;
    const expected = this.#expectation.allowed ? 'allowed' : 'denied';
    const answer =
      answeredBy !== undefined && answeredBy !== to ? ` (answered by ${answeredBy})` : detail === undefined ? '' : ` (${detail})`;
    const rows = [...new Set(this.#shows.map(({ row }) => row))].join(', ');
    return `${from} to ${to}, IPv${family} ${protocol}/${port}, ${through}: expected ${expected}, measured ${measured}${answer}; rows ${rows}`;
  }

  #describe(): string {
    const { leaving, arriving, path } = this.#probe;
    const ends = [leaving.source, leaving.destination];
    const { egress, ingress } = this.#expectation;
    const line = (address: Address, port: number | undefined): string =>
      `${formatAddress(address)}${port === undefined ? '' : ` port ${port}`}`;
    return `
${this.#summary()}
  cluster ${this.seed}, ${this.#state}
  ${path}: leaves as ${line(leaving.source, undefined)} to ${line(leaving.destination, leaving.port)}${
    arriving === leaving ? '' : `, arrives from ${formatAddress(arriving.source)}`
  }
  egress: ${describeVerdict(egress)}
  ingress: ${describeVerdict(ingress)}
  it would have been expected otherwise if: ${this.#shows.map(({ row, reading }) => `${reading} (row ${row})`).join('; ') || 'nothing'}

What the ends are, and the policies that isolate them:
---
${[...this.#pods(ends), ...this.#policies(ends)].map(manifestOf).join('---\n')}
Again, this cluster alone:
  SLUICE_RANDOM_SEED=${this.seed} SLUICE_RANDOM_CLUSTERS=1 sh scripts/sandbox.sh mocha test/kernel/random-policies.test.ts
and, if that is not enough, with the state it followed:
  SLUICE_RANDOM_SEED=${this.seed - 1} SLUICE_RANDOM_CLUSTERS=2 sh scripts/sandbox.sh mocha test/kernel/random-policies.test.ts
`;
  }

  /** Every object that claims one of the addresses. */
  #pods(ends: readonly Address[]): ApiObject[] {
    const texts = new Set(ends.map(formatAddress));
    return this.#objects.filter((object) => {
      const { podIPs = [] } = (object['status'] ?? {}) as { readonly podIPs?: readonly { readonly ip: string }[] };
      return object.kind === 'Pod' && podIPs.some(({ ip }) => texts.has(ip));
    });
  }

  #policies(ends: readonly Address[]): ApiObject[] {
    const world = worldFrom(this.#objects);
    const names = new Set(
      ends.flatMap((address) => {
        const pod = world.podAt(address);
        if (pod === undefined) return [];
        const policies = [...world.isolating(pod, 'egress'), ...world.isolating(pod, 'ingress')];
        return policies.map(({ namespace, name }) => `networkpolicy.${namespace}.${name}`);
      }),
    );
    return this.#objects.filter((object) => names.has(objectName(object)));
  }
}

function describeVerdict(verdict: DirectionVerdict): string {
  if (!verdict.allowed)
    return `refused: isolated by ${verdict.policies.map(({ namespace, name }) => `${namespace}/${name}`).join(', ')}, and no rule admits it`;
  if (verdict.reason !== 'admitted') return `allowed: ${verdict.reason}`;
  const { policy, rule, peer, port } = verdict;
  return `admitted by ${policy.namespace}/${policy.name}, rule ${rule}, peer ${peer ?? 'any'}, port ${port ?? 'any'}`;
}
