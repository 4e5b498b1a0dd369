/**
 * The small cluster that policy tests ask about, the one of the upstream end-to-end tests: namespaces x, y, z with a pod a, b, c
 * each, which serve TCP, UDP and SCTP on 80 and 81. Namespace x is on node n1, y on n2, z on n3; x/a has 10.244.1.10 and
 * fd00:244:1::a, x/b 10.244.1.11, y/a 10.244.2.10, and so on. Nodes are 192.0.2.1 to .3, with podCIDRs 10.244.1.0/24 to .3.0/24.
 */
import { type Address, type Family, familyOf, parseAddress, parsePrefix, type Prefix } from '../../../src/policy/address.ts';
import { evaluate, type Verdict } from '../../../src/policy/evaluate.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import type { NamedPort, Namespace, Node, Pod, Policy, Protocol } from '../../../src/policy/objects.ts';
import type { World } from '../../../src/policy/world.ts';

export const PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
export const NAMESPACES = ['x', 'y', 'z'] as const;
export const PODS = ['a', 'b', 'c'] as const;
export const KEYS = NAMESPACES.flatMap((namespace) => PODS.map((pod) => `${namespace}/${pod}`));

/** Ports that every pod declares: serve-80-tcp, serve-81-tcp, serve-80-udp, … */
export const SERVED: readonly NamedPort[] = PROTOCOLS.flatMap((protocol) =>
  [80, 81].map((port) => ({ name: `serve-${port}-${protocol.toLowerCase()}`, protocol, port })),
);

export function address(text: string): Address {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw new Error(`the test has a bad address: ${text}`);
  return parsed;
}

export function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (parsed === undefined) throw new Error(`the test has a bad prefix: ${text}`);
  return parsed;
}

/** The address of x/a and so on, as text. */
export function ip(key: string, family: Family = 4): string {
  const [namespace, pod] = NAMESPACES.flatMap((ns, i) => PODS.flatMap((name, j) => (`${ns}/${name}` === key ? [i + 1, 10 + j] : [])));
  if (namespace === undefined || pod === undefined) throw new Error(`the test names a pod that is not in the model: ${key}`);
  return family === 4 ? `10.244.${namespace}.${pod}` : `fd00:244:${namespace}::${pod.toString(16)}`;
}

export function labels(entries: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(entries));
}

/** A pod of the model, or any other of which `fields` says the rest. */
export function pod(key: string, fields: Partial<Pod> = {}): Pod {
  const [namespace = '', name = ''] = key.split('/');
  return {
    namespace,
    name,
    uid: `uid-${key}`,
    node: `n${NAMESPACES.findIndex((ns) => ns === namespace) + 1}`,
    labels: labels({ pod: name }),
    addresses: KEYS.includes(key) ? [address(ip(key, 4)), address(ip(key, 6))] : [],
    hostNetwork: false,
    terminal: false,
    createdAt: 0,
    ports: SERVED,
    declaredPorts: SERVED.map(({ protocol, port }) => ({ protocol, port })),
    ...fields,
  };
}

export function namespace(name: string, extra: Readonly<Record<string, string>> = {}): Namespace {
  return { name, labels: labels({ 'kubernetes.io/metadata.name': name, ns: name, ...extra }) };
}

export function node(number: number): Node {
  return {
    name: `n${number}`,
    addresses: [address(`192.0.2.${number}`), address(`2001:db8::${number}`)],
    podCIDRs: [prefix(`10.244.${number}.0/24`), prefix(`fd00:244:${number}::/64`)],
  };
}

export const MODEL = {
  pods: KEYS.map((key) => pod(key)),
  namespaces: NAMESPACES.map((name) => namespace(name)),
  nodes: [1, 2, 3].map(node),
};

/** The model with these pods instead of those of their name, or besides. */
export function podsWith(...changed: readonly Pod[]): Pod[] {
  return [...MODEL.pods, ...changed];
}

/** A policy of namespace x. */
export function policy(spec: unknown, name = 'policy', ns = 'x'): Policy {
  return interpretPolicy(ns, name, spec);
}

/** Selects one pod of the policy's namespace. */
export function only(name: string): { readonly matchLabels: { readonly pod: string } } {
  return { matchLabels: { pod: name } };
}

/** Asks about pods of the model by key, and about anything else by address. */
export function ask(world: World, from: string, to: string, protocol: Protocol = 'TCP', port: number | undefined = 80): Verdict {
  const literal = [from, to].find((end) => !end.includes('/'));
  const family = literal === undefined ? 4 : familyOf(address(literal));
  const resolve = (end: string): Address => address(end.includes('/') ? ip(end, family) : end);
  return evaluate(world, { source: resolve(from), destination: resolve(to), protocol, port });
}

export function allows(...question: Parameters<typeof ask>): boolean {
  return ask(...question).allowed;
}
