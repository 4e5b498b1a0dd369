/**
 * Random clusters and policies as API objects, from a seed: small vocabularies, so that selectors hit and miss, addresses lie in and
 * out of blocks, and every corner that can be drawn is drawn often. Each choice that stands for a row of the semantics is counted.
 */
import type { Family } from '../../src/policy/address.ts';

export interface ApiObject {
  readonly apiVersion: string;
  readonly kind: 'Pod' | 'Namespace' | 'Node' | 'NetworkPolicy';
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

/** Random numbers from a seed (mulberry32): the same seed gives the same cluster everywhere. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 ≤ n < `sides` */
  roll(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % sides;
  }

  chance(percent: number): boolean {
    return this.roll(100) < percent;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('nothing to pick from');
    // The index is within the array; an item may be undefined itself.
    return items[this.roll(items.length)] as T;
  }

  /** Fisher–Yates. */
  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items];
    for (let end = shuffled.length - 1; end > 0; end--) {
      const at = this.roll(end + 1);
      // Both are within the array.
      [shuffled[at], shuffled[end]] = [shuffled[end] as T, shuffled[at] as T];
    }
    return shuffled;
  }

  some<T>(items: readonly T[], percent: number): T[] {
    return items.filter(() => this.chance(percent));
  }
}

/** How often each row of the semantics was drawn. */
export type Coverage = Map<number, number>;

export const NAMESPACES = ['x', 'y', 'z'] as const;
/** A namespace that has pods and policies, and no object. */
export const ORPHAN = 'w';
export const NODES = ['node-a', 'node-b'] as const;
/** The underlay's addresses; .10 upwards are nodes, .100 the outside host. */
export const NODE_ADDRESSES: Readonly<Record<string, readonly [string, string]>> = {
  'node-a': ['172.30.0.10', 'fd00:30::10'],
  'node-b': ['172.30.0.11', 'fd00:30::11'],
};
export const OUTSIDE = ['172.30.0.100', 'fd00:30::100'] as const;
export const POD_CIDRS: Readonly<Record<string, readonly [string, string]>> = {
  'node-a': ['10.244.1.0/24', 'fd00:244:1::/64'],
  'node-b': ['10.244.2.0/24', 'fd00:244:2::/64'],
};
/** Ports that pods listen on and that are probed. */
export const PORTS = [80, 81, 8080] as const;
export const PORT_NAMES = ['web', 'dns', 'admin'] as const;
export const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;

export const LABELS: Readonly<Record<string, readonly string[]>> = { app: ['a', 'b', 'c'], tier: ['front', 'back', ''], track: ['blue'] };
export const NAMESPACE_LABELS: Readonly<Record<string, readonly string[]>> = { team: ['red', 'green'], env: ['prod', 'dev'] };

export interface PodTraits {
  readonly hostNetwork?: boolean;
  readonly terminal?: boolean;
}

export class ClusterGenerator {
  readonly dice: Dice;
  readonly coverage: Coverage;
  #serial = 0;

  constructor(seed: number, coverage: Coverage = new Map()) {
    this.dice = new Dice(seed);
    this.coverage = coverage;
  }

  cover(...rows: number[]): void {
    for (const row of rows) this.coverage.set(row, (this.coverage.get(row) ?? 0) + 1);
  }

  nodes(): ApiObject[] {
    return NODES.map((name) => ({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name },
      spec: { podCIDR: POD_CIDRS[name]?.[0], podCIDRs: POD_CIDRS[name] },
      status: { addresses: NODE_ADDRESSES[name]?.map((address) => ({ type: 'InternalIP', address })) },
    }));
  }

  namespace(name: string): ApiObject {
    return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels: this.labels(NAMESPACE_LABELS) } };
  }

  labels(vocabulary: Readonly<Record<string, readonly string[]>> = LABELS): Record<string, string> {
    return Object.fromEntries(
      Object.entries(vocabulary).flatMap(([key, values]) => (this.dice.chance(60) ? [[key, this.dice.pick(values)]] : [])),
    );
  }

  /**
   * @param host number of the address in the node's podCIDR, from 2 on; two pods of one number overlap (rows 33, 40)
   * @param traits what is not left to chance
   */
  pod(
    namespace: string,
    name: string,
    node: string,
    host: number,
    families: readonly Family[] = [4, 6],
    traits: PodTraits = {},
  ): ApiObject {
    const { dice } = this;
    const hostNetwork = traits.hostNetwork ?? dice.chance(6);
    const terminal = traits.terminal ?? (!hostNetwork && dice.chance(6));
    if (hostNetwork) this.cover(29);
    if (terminal) this.cover(33);
    if (families.length > 1) this.cover(36);
    const podIPs = families.map((family) => {
      if (hostNetwork) return { ip: NODE_ADDRESSES[node]?.[family === 4 ? 0 : 1] };
      return {
        ip:
          family === 4
            ? `${POD_CIDRS[node]?.[0].replace('0/24', '')}${host}`
            : `${POD_CIDRS[node]?.[1].replace('/64', '')}${host.toString(16)}`,
      };
    });
    const ports = PORT_NAMES.flatMap((portName) => {
      if (!dice.chance(60)) return [];
      const protocol = dice.pick(PROTOCOLS);
      const port = { name: portName, containerPort: dice.pick(PORTS), ...(protocol === 'TCP' && dice.chance(50) ? {} : { protocol }) };
      // One name, two numbers: both are meant.
      return dice.chance(40) ? [port, { ...port, containerPort: dice.pick(PORTS) }] : [port];
    });
    const sidecar = dice.chance(50);
    if (sidecar) this.cover(16);
    const initContainers = sidecar
      ? [
          { name: 'mesh', restartPolicy: 'Always', ports: [{ name: 'mesh', containerPort: 81 }] },
          { name: 'setup', ports: [{ name: 'setup', containerPort: 80 }] },
        ]
      : [];
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name,
        namespace,
        uid: `uid-${++this.#serial}`,
        labels: this.labels(),
        creationTimestamp: new Date(1_700_000_000_000 + this.#serial * 1000).toISOString(),
        ...(dice.chance(10) ? (this.cover(34), { deletionTimestamp: new Date(1_800_000_000_000).toISOString() }) : {}),
      },
      spec: { nodeName: node, ...(hostNetwork ? { hostNetwork } : {}), initContainers, containers: [{ name: 'main', ports }] },
      status: {
        phase: terminal ? dice.pick(['Succeeded', 'Failed']) : dice.pick(['Running', 'Running', 'Pending']),
        podIP: podIPs[0]?.ip,
        podIPs,
      },
    };
  }

  selector(vocabulary: Readonly<Record<string, readonly string[]>> = LABELS): Record<string, unknown> {
    const { dice } = this;
    if (dice.chance(25)) return {};
    const keys = [...Object.keys(vocabulary), 'missing'];
    const key = dice.pick(keys);
    const values = vocabulary[key] ?? ['a'];
    switch (dice.roll(7)) {
      case 0:
      case 1: {
        const value = dice.pick(values);
        if (value === '') this.cover(10);
        return { matchLabels: { [key]: value } };
      }
      case 2:
        return { matchExpressions: [{ key, operator: 'In', values: dice.some(values, 60).concat(dice.pick(values)) }] };
      case 3:
        this.cover(8);
        return { matchExpressions: [{ key, operator: 'NotIn', values: [dice.pick(values)] }] };
      case 4:
        return { matchExpressions: [{ key, operator: 'Exists' }] };
      case 5:
        this.cover(8);
        return { matchExpressions: [{ key, operator: 'DoesNotExist' }] };
      default:
        if (!dice.chance(25))
          return { matchLabels: { [key]: dice.pick(values) }, matchExpressions: [{ key: dice.pick(keys), operator: 'Exists' }] };
        this.cover(11);
        return {
          matchExpressions: [
            dice.pick([
              { key, operator: 'Near', values },
              { key, operator: 'In', values: [] },
              { key, operator: 'Exists', values },
            ]),
          ],
        };
    }
  }

  ipBlock(): Record<string, unknown> {
    const { dice } = this;
    this.cover(21);
    const pod = `10.244.${dice.pick([1, 2])}.${2 + dice.roll(6)}`;
    const v4 = [
      '0.0.0.0/0',
      '10.244.0.0/16',
      '10.244.1.0/24',
      '10.244.2.0/24',
      `${pod}/32`,
      `${pod}/30`,
      '172.30.0.0/24',
      `${OUTSIDE[0]}/32`,
      '172.30.0.11/32',
    ];
    const v6 = ['::/0', 'fd00:244::/32', 'fd00:244:1::/64', 'fd00:30::/64', `fd00:244:2::${2 + dice.roll(6)}/128`];
    switch (dice.roll(12)) {
      case 0:
        this.cover(20);
        return { cidr: dice.pick(['10.244.1.5/24', '010.244.0.0/16', 'fd00:244:1::5/64']) };
      case 1:
        this.cover(20);
        return { cidr: '10.244.1.0/24', except: ['10.244.0.0/16'] };
      case 2:
        if (!dice.chance(60)) break;
        this.cover(11);
        if (dice.chance(50)) return { cidr: '0.0.0.0/0', except: ['10.244.1.0/33'] };
        return { cidr: dice.pick(['10.244.1.0/33', 'fd00::/129', '10.244.1/24', 'everything', '::ffff:10.244.1.0/120']) };
      case 3:
      case 4:
      case 5:
        this.cover(19);
        return {
          cidr: dice.pick(['0.0.0.0/0', '10.244.0.0/16', '8.0.0.0/5']),
          except: [`${pod}/32`, ...dice.some(['10.244.2.0/24', '172.30.0.0/24', '10.244.1.0/29'], 40)],
        };
      case 6:
        this.cover(19, 36);
        return { cidr: '::/0', except: ['fd00:244:1::/64', ...dice.some(['fd00:30::/64', 'fd00:244:2::4/128'], 50)] };
    }
    if (dice.chance(25)) {
      this.cover(36);
      return { cidr: dice.pick(v6) };
    }
    return { cidr: dice.pick(v4) };
  }

  peer(): Record<string, unknown> {
    const { dice } = this;
    switch (dice.roll(9)) {
      case 0:
      case 1: {
        const podSelector = this.selector();
        if (Object.keys(podSelector).length === 0) this.cover(5);
        return { podSelector };
      }
      case 2:
      case 3: {
        const namespaceSelector = this.selector(NAMESPACE_LABELS);
        if (Object.keys(namespaceSelector).length === 0) this.cover(6);
        return { namespaceSelector };
      }
      case 4:
        this.cover(7, 9);
        return { podSelector: this.selector(), namespaceSelector: this.selector(NAMESPACE_LABELS) };
      case 5:
        return {
          namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': dice.pick([...NAMESPACES, ORPHAN]) } },
          podSelector: this.selector(),
        };
      case 6:
        if (dice.chance(20)) {
          this.cover(4);
          return {};
        }
        if (dice.chance(35)) {
          this.cover(11);
          return { ipBlock: this.ipBlock(), podSelector: {} };
        }
        return { ipBlock: this.ipBlock() };
      default:
        return { ipBlock: this.ipBlock() };
    }
  }

  port(direction: 'ingress' | 'egress', hasPeers: boolean): Record<string, unknown> {
    const { dice } = this;
    const protocol = dice.pick([undefined, 'TCP', 'UDP', 'SCTP'] as const);
    const named = protocol === undefined ? {} : { protocol };
    switch (dice.roll(8)) {
      case 0:
        this.cover(13);
        return named;
      case 1: {
        const port = dice.pick([79, 80, 81, 8000]);
        const endPort = port + dice.pick([0, 1, 2, 500]);
        this.cover(14);
        return { ...named, port, endPort };
      }
      case 2:
      case 3:
      case 5:
        this.cover(15, 16);
        if (direction === 'egress' && !hasPeers) this.cover(17);
        return { ...named, port: dice.pick([...PORT_NAMES, 'mesh', 'mesh', 'setup', 'setup', 'nobody']) };
      case 4:
        if (!dice.chance(60)) break;
        this.cover(39);
        return dice.pick([
          { protocol: 'ICMP', port: 80 },
          { protocol: '', port: 80 },
          { port: '80' },
          { port: 81, endPort: 80 },
          { port: 'web', endPort: 81 },
        ]);
    }
    if (protocol === undefined) this.cover(12);
    if (protocol === 'SCTP') this.cover(23);
    if (protocol === 'UDP') this.cover(24);
    return { ...named, port: dice.pick(PORTS) };
  }

  rule(direction: 'ingress' | 'egress'): Record<string, unknown> {
    const { dice } = this;
    const side = direction === 'ingress' ? 'from' : 'to';
    const rule: Record<string, unknown> = {};
    const peers = dice.pick([0, 1, 1, 1, 2, 3]);
    if (peers > 0) rule[side] = Array.from({ length: peers }, () => this.peer());
    else {
      this.cover(3);
      if (dice.chance(50)) rule[side] = [];
    }
    if (peers > 1) this.cover(7);
    const ports = dice.pick([0, 0, 1, 1, 2, 3]);
    if (ports > 0) rule['ports'] = Array.from({ length: ports }, () => this.port(direction, peers > 0));
    else this.cover(3, 32);
    return rule;
  }

  policy(namespace: string, name: string): ApiObject {
    const { dice } = this;
    const spec: Record<string, unknown> = { podSelector: this.selector() };
    for (const direction of ['ingress', 'egress'] as const) {
      if (!dice.chance(60)) continue;
      const rules = dice.pick([0, 1, 2, 2, 3]);
      spec[direction] = Array.from({ length: rules }, () => this.rule(direction));
      if (rules === 0) this.cover(direction === 'ingress' ? 2 : 1);
    }
    if (dice.chance(65)) {
      spec['policyTypes'] = dice.pick([['Ingress'], ['Egress'], ['Ingress', 'Egress']]);
      if (dice.chance(3)) {
        this.cover(39);
        spec['policyTypes'] = ['Ingress', 'Sideways'];
      }
    } else this.cover(1);
    if (spec['ingress'] !== undefined && spec['egress'] !== undefined) this.cover(25);
    return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace }, spec };
  }
}
