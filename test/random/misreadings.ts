/**
 * What engines get wrong, row by row: each is another reading of the same cluster. A probe whose verdict would be another one under
 * a misreading shows the row: the packet went as the row says, and not as the misreading would have it. So coverage is counted in
 * packets that could have gone the other way, and not in objects that happened to be drawn.
 *
 * A misreading rewrites the objects (and then the true evaluator judges what they say), or the verdict.
 */
import { readPrefix } from '../../src/policy/address.ts';
import { readSelector } from '../../src/policy/selector.ts';
import type { World } from '../../src/policy/world.ts';
import type { ApiObject } from './cluster.ts';
import { type Expectation, expectationOf, type Probe } from './probes.ts';
import { eachBlock, eachPeer, eachPod, eachPolicy, eachPort, eachRule, eachSelector, type Fields, withoutPolicies } from './rewrite.ts';
import { declaredNumbers, worldFrom } from './world.ts';

export interface Misreading {
  readonly row: number;
  /** As a sentence about what is got wrong. */
  readonly reading: string;
  /** The objects as they are misread; the same list where nothing in it can be misread so. */
  readonly objects?: (objects: readonly ApiObject[], before: readonly ApiObject[] | undefined) => readonly ApiObject[];
  /** Whether the probe would be allowed. Default: what the evaluator says of the rewritten objects. */
  readonly allowed?: (world: World, probe: Probe, truth: Expectation) => boolean;
  /** Probes that it is about. Default: all. */
  readonly concerns?: (probe: Probe) => boolean;
}

const EVERYONE: readonly Fields[] = [{ ipBlock: { cidr: '0.0.0.0/0' } }, { ipBlock: { cidr: '::/0' } }];
const ALL_PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;
const isIcmp = ({ protocol }: Probe): boolean => protocol === 'ICMP';
const isService = ({ through }: Probe): boolean => through !== 'directly';
const isTCP = ({ protocol }: Probe): boolean => protocol === 'TCP';

function leaveOut(fields: Fields, left: string): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => key !== left));
}

function hasKeys(value: unknown, ...keys: readonly string[]): value is Fields {
  return typeof value === 'object' && value !== null && keys.every((key) => key in value);
}

const isEmpty = (value: unknown): boolean => typeof value === 'object' && value !== null && Object.keys(value).length === 0;
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const isUnreadable = (selector: unknown): boolean => selector !== undefined && readSelector(selector, '').selector === undefined;
const cidrOf = (block: Fields): string => String(block['cidr']);
const hasHostBits = (block: Fields): boolean => readPrefix(cidrOf(block))?.hostBits === true;
const hasLeadingZeros = (block: Fields): boolean => readPrefix(cidrOf(block))?.leadingZeros === true;

function coversItself(block: Fields): boolean {
  const cidr = readPrefix(cidrOf(block));
  return list(block['except']).some((text) => {
    const hole = readPrefix(String(text));
    if (cidr === undefined || hole === undefined || typeof cidr.prefix.address !== typeof hole.prefix.address) return false;
    return (
      hole.prefix.length <= cidr.prefix.length &&
      readPrefix(`${cidrOf(block).split('/')[0]}/${hole.prefix.length}`)?.prefix.address === hole.prefix.address
    );
  });
}

function cannotBeRead(block: Fields): boolean {
  const reading = readPrefix(cidrOf(block));
  return reading === undefined || cidrOf(block).startsWith('::ffff:');
}

/** Every number that any pod declares under the name. */
function united(objects: readonly ApiObject[], port: Fields, protocols = [port['protocol'] ?? 'TCP']): Fields[] {
  return declaredNumbers(objects, String(port['port'])).flatMap((number) => protocols.map((protocol) => ({ protocol, port: number })));
}

const isNamed = (port: Fields): boolean => typeof port['port'] === 'string' && !/^[0-9]+$/.test(port['port']);

export const MISREADINGS: readonly Misreading[] = [
  {
    row: 1,
    reading: 'without policyTypes a policy isolates both directions',
    objects: eachPolicy((spec) => (spec['policyTypes'] === undefined ? { ...spec, policyTypes: ['Ingress', 'Egress'] } : spec)),
  },
  {
    row: 1,
    reading: 'without policyTypes a policy isolates ingress only, whatever its egress rules',
    objects: eachPolicy((spec) => (spec['policyTypes'] === undefined ? { ...spec, policyTypes: ['Ingress'] } : spec)),
  },
  {
    row: 2,
    reading: 'no rules admit everything',
    objects: eachPolicy((spec) => {
      const open = (field: string): Fields =>
        list(spec[field]).length === 0 && spec['policyTypes'] !== undefined ? { [field]: [{}] } : {};
      return { ...spec, ...open('ingress'), ...open('egress') };
    }),
  },
  { row: 2, reading: 'an empty rule admits nobody', objects: eachRule((rule) => (isEmpty(rule) ? undefined : rule)) },
  {
    row: 3,
    reading: 'a rule without peers admits pods only',
    objects: eachRule((rule, { side }) => (list(rule[side]).length === 0 ? { ...rule, [side]: [{ namespaceSelector: {} }] } : rule)),
  },
  {
    row: 3,
    reading: 'an empty list of peers admits nobody',
    objects: eachRule((rule, { side }) => (Array.isArray(rule[side]) && rule[side].length === 0 ? undefined : rule)),
  },
  {
    row: 3,
    reading: 'a rule without ports admits TCP only',
    objects: eachRule((rule) => (rule['ports'] === undefined ? { ...rule, ports: [{ protocol: 'TCP' }] } : rule)),
    concerns: (probe) => !isIcmp(probe),
  },
  { row: 4, reading: 'an empty peer is everyone', objects: eachPeer((peer) => (isEmpty(peer) ? EVERYONE : peer)) },
  {
    row: 5,
    reading: 'podSelector alone looks in every namespace',
    objects: eachPeer((peer) => (Object.keys(peer).join() === 'podSelector' ? { ...peer, namespaceSelector: {} } : peer)),
  },
  {
    row: 6,
    reading: 'namespaceSelector: {} is everyone, external addresses too',
    objects: eachPeer((peer) =>
      hasKeys(peer, 'namespaceSelector') && isEmpty(peer['namespaceSelector']) && isEmpty(peer['podSelector'] ?? {}) ? EVERYONE : peer,
    ),
  },
  {
    row: 6,
    reading: "namespaceSelector: {} leaves the policy's own namespace out",
    objects: eachPeer((peer, { namespace }) =>
      hasKeys(peer, 'namespaceSelector') && isEmpty(peer['namespaceSelector'])
        ? {
            ...peer,
            namespaceSelector: { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: [namespace] }] },
          }
        : peer,
    ),
  },
  {
    row: 7,
    reading: 'podSelector and namespaceSelector in one peer: either will do',
    objects: eachPeer((peer) =>
      hasKeys(peer, 'podSelector', 'namespaceSelector')
        ? [{ podSelector: peer['podSelector'] }, { namespaceSelector: peer['namespaceSelector'] }]
        : peer,
    ),
  },
  {
    row: 7,
    reading: 'of several peers only the first counts',
    objects: eachRule((rule, { side }) => (list(rule[side]).length > 1 ? { ...rule, [side]: list(rule[side]).slice(0, 1) } : rule)),
  },
  {
    row: 8,
    reading: 'NotIn needs the key',
    objects: eachSelector((selector) => {
      const absent = list(selector['matchExpressions']).filter((each) => hasKeys(each, 'operator') && each['operator'] === 'NotIn');
      const exists = absent.map((each) => ({ key: (each as Fields)['key'], operator: 'Exists' }));
      return exists.length === 0 ? selector : { ...selector, matchExpressions: [...list(selector['matchExpressions']), ...exists] };
    }),
  },
  {
    row: 8,
    reading: 'DoesNotExist matches nothing',
    objects: eachSelector((selector) => {
      const absent = list(selector['matchExpressions']).find((each) => hasKeys(each, 'operator') && each['operator'] === 'DoesNotExist');
      if (absent === undefined) return selector;
      const exists = { key: (absent as Fields)['key'], operator: 'Exists' };
      return { ...selector, matchExpressions: [...list(selector['matchExpressions']), exists] };
    }),
  },
  {
    row: 9,
    reading: "with a namespaceSelector, podSelector looks in the policy's namespace",
    objects: eachPeer((peer) => (hasKeys(peer, 'podSelector', 'namespaceSelector') ? { podSelector: peer['podSelector'] } : peer)),
  },
  { row: 10, reading: 'an empty value matches any value', objects: eachSelector((selector) => emptyValues(selector, 'Exists')) },
  { row: 10, reading: 'an empty value matches a missing key', objects: eachSelector((selector) => emptyValues(selector, 'DoesNotExist')) },
  {
    row: 11,
    reading: 'a peer selector that cannot be read matches everything',
    objects: eachPeer((peer) => {
      const fix = (field: string): Fields => (isUnreadable(peer[field]) ? { [field]: {} } : {});
      return { ...peer, ...fix('podSelector'), ...fix('namespaceSelector') };
    }),
  },
  {
    row: 11,
    reading: 'a CIDR that cannot be read is everyone',
    objects: eachPeer((peer) => (hasKeys(peer['ipBlock'], 'cidr') && cannotBeRead(peer['ipBlock']) ? EVERYONE : peer)),
  },
  {
    row: 11,
    reading: 'an `except` that cannot be read has no effect',
    objects: eachBlock((block) =>
      list(block['except']).some((hole) => readPrefix(String(hole)) === undefined) ? leaveOut(block, 'except') : block,
    ),
  },
  {
    row: 11,
    reading: 'of ipBlock and selectors in one peer, the selectors count',
    objects: eachPeer(({ ipBlock, ...rest }) => (ipBlock === undefined || isEmpty(rest) ? { ipBlock, ...rest } : rest)),
  },
  {
    row: 11,
    reading: 'a policy whose podSelector cannot be read selects nobody',
    objects: withoutPolicies(({ spec }) => isUnreadable(spec['podSelector'])),
  },
  {
    row: 12,
    reading: 'a port without protocol is one of every protocol',
    objects: eachPort((port) => (port['protocol'] === undefined ? ALL_PROTOCOLS.map((protocol) => ({ ...port, protocol })) : port)),
  },
  {
    row: 13,
    reading: 'a protocol without port matches nothing',
    objects: eachPort((port) => (port['port'] === undefined ? [] : port)),
  },
  { row: 14, reading: 'endPort has no effect', objects: eachPort((port) => leaveOut(port, 'endPort')) },
  {
    row: 14,
    reading: 'endPort is exclusive',
    objects: eachPort((port) => {
      const { port: first, endPort } = port;
      if (typeof endPort !== 'number' || typeof first !== 'number') return port;
      return endPort > first ? { ...port, endPort: endPort - 1 } : [];
    }),
  },
  {
    row: 14,
    reading: 'an endPort that may not be there (below its port, beside a name) has no effect',
    objects: eachPort((port) => {
      const { port: first, endPort } = port;
      return typeof endPort === 'number' && !(typeof first === 'number' && endPort >= first) ? leaveOut(port, 'endPort') : port;
    }),
  },
  {
    row: 14,
    reading: 'a port given as "80" is the number',
    objects: eachPort((port) => (typeof port['port'] === 'string' && !isNamed(port) ? { ...port, port: Number(port['port']) } : port)),
  },
  {
    row: 15,
    reading: "a named port is the numbers of every pod's port of that name",
    objects: (objects) => eachPort((port) => (isNamed(port) ? [port, ...united(objects, port)] : port), podsOnly)(objects),
  },
  {
    row: 15,
    reading: 'an ingress rule with a named port admits every peer',
    objects: eachRule((rule, { direction }) => {
      const named = (list(rule['ports']) as Fields[]).filter(isNamed);
      return named.length === 0 || direction === 'egress' ? rule : [rule, { ports: named }];
    }),
  },
  {
    row: 15,
    reading: 'an egress rule with a named port admits every pod that has one, whatever its blocks',
    objects: eachRule((rule) => {
      const named = (list(rule['ports']) as Fields[]).filter(isNamed);
      const hasBlock = (list(rule['to']) as Fields[]).some((peer) => 'ipBlock' in peer);
      return named.length === 0 || !hasBlock ? rule : [rule, { ports: named }];
    }),
  },
  {
    row: 15,
    reading: 'of a port name that has two numbers in a pod, only the first counts',
    objects: eachPod(({ spec, ...pod }) => {
      const seen = new Set<string>();
      const isFirst = ({ name, protocol = 'TCP' }: Fields): boolean => seen.size < seen.add(`${String(name)} ${String(protocol)}`).size;
      const containers = (list(spec['containers']) as Fields[]).map((each) => ({
        ...each,
        ports: (list(each['ports']) as Fields[]).filter(isFirst),
      }));
      return { ...pod, spec: { ...spec, containers } };
    }),
  },
  { row: 15, reading: 'a named port matches nothing', objects: eachPort((port) => (isNamed(port) ? [] : port)) },
  {
    row: 16,
    reading: 'a named port is a number, whatever the protocol it is declared for',
    objects: eachPod(({ spec, ...pod }) => {
      const container = (of: Fields): Fields => ({
        ...of,
        ports: list(of['ports']).flatMap((port) => ALL_PROTOCOLS.map((protocol) => ({ ...(port as Fields), protocol }))),
      });
      const all = (field: string): Fields => ({ [field]: list(spec[field]).map((each) => container(each as Fields)) });
      return { ...pod, spec: { ...spec, ...all('containers'), ...all('initContainers') } };
    }),
  },
  {
    row: 16,
    reading: 'ordinary init containers declare ports',
    objects: eachPod(({ spec, ...pod }) => ({
      ...pod,
      spec: { ...spec, initContainers: list(spec['initContainers']).map((each) => ({ ...(each as Fields), restartPolicy: 'Always' })) },
    })),
  },
  {
    row: 16,
    reading: 'sidecars declare no ports',
    objects: eachPod(({ spec, ...pod }) => ({ ...pod, spec: { ...spec, initContainers: [] } })),
  },
  {
    row: 17,
    reading: 'a named port without `to` reaches external addresses too',
    objects: (objects) =>
      eachPort(
        (port) => (isNamed(port) ? [port, ...united(objects, port)] : port),
        (rule, { side }) => side === 'to' && list(rule[side]).length === 0,
      )(objects),
    concerns: ({ to }) => !to.startsWith('slot/'),
  },
  {
    row: 18,
    reading: "the Service's port is judged",
    allowed: (world, probe) => {
      const asked = { ...probe.leaving, port: probe.port };
      return expectationOf(world, { leaving: asked, arriving: asked }).allowed;
    },
    concerns: isService,
  },
  {
    row: 19,
    reading: 'an `except` holds for every block of its policy',
    objects: eachPolicy((spec) => {
      const holes = blocksOf(spec).flatMap((block) => list(block['except']));
      return holes.length === 0
        ? spec
        : mapBlocks(spec, (block) => ({ ...block, except: [...new Set([...list(block['except']), ...holes])] }));
    }),
  },
  { row: 19, reading: '`except` has no effect', objects: eachBlock((block) => leaveOut(block, 'except')) },
  { row: 20, reading: 'a block with host bits matches nothing', objects: eachBlock((block) => (hasHostBits(block) ? undefined : block)) },
  {
    row: 20,
    reading: 'a block with leading zeros matches nothing',
    objects: eachBlock((block) => (hasLeadingZeros(block) ? undefined : block)),
  },
  {
    row: 20,
    reading: 'an `except` that covers its whole block has no effect',
    objects: eachBlock((block) => (coversItself(block) ? { cidr: block['cidr'] } : block)),
  },
  {
    row: 21,
    reading: 'a block matches no pod',
    objects: eachBlock((block) => ({
      ...block,
      except: [...list(block['except']), cidrOf(block).includes(':') ? 'fd00:244::/32' : '10.244.0.0/16'],
    })),
    concerns: (probe) => probe.to !== probe.from,
  },
  {
    row: 22,
    reading: "the Service's address is judged",
    allowed: (world, probe) =>
      expectationOf(world, { leaving: { ...probe.leaving, destination: probe.via ?? probe.leaving.destination }, arriving: probe.arriving })
        .allowed,
    concerns: isService,
  },
  {
    row: 23,
    reading: 'SCTP is TCP',
    objects: eachPort((port) => (port['protocol'] === 'SCTP' ? [port, { ...port, protocol: 'TCP' }] : port)),
    concerns: isTCP,
  },
  {
    row: 23,
    reading: 'a policy that only names SCTP leaves TCP alone',
    objects: eachPolicy((spec) => leaveAlone(spec, 'SCTP')),
    concerns: isTCP,
  },
  {
    row: 24,
    reading: 'a policy that only names UDP leaves TCP alone',
    objects: eachPolicy((spec) => leaveAlone(spec, 'UDP')),
    concerns: isTCP,
  },
  {
    row: 25,
    reading: 'the first policy that isolates a pod decides alone',
    allowed: (world, probe) => {
      const first: World = {
        podAt: (address) => world.podAt(address),
        nodeAt: (address) => world.nodeAt(address),
        namespaceLabels: (namespace) => world.namespaceLabels(namespace),
        isolating: (pod, direction) => world.isolating(pod, direction).slice(0, 1),
      };
      return expectationOf(first, probe).allowed;
    },
  },
  { row: 25, reading: 'either side may allow', allowed: (_, __, truth) => truth.egress.allowed || truth.ingress.allowed },
  {
    row: 25,
    reading: 'who is isolated in one direction is in the other',
    objects: eachPolicy((spec) => ({ ...spec, policyTypes: ['Ingress', 'Egress'] })),
  },
  {
    row: 26,
    reading: 'replies are judged as well',
    allowed: (world, probe, truth) => {
      const { source, destination, protocol } = probe.leaving;
      const reply = { source: destination, destination: source, protocol, ...(protocol === 'ICMP' ? {} : { port: 40_000 }) };
      return truth.allowed && expectationOf(world, { leaving: reply, arriving: reply }).allowed;
    },
    concerns: ({ through }) => through !== 'DNAT and masquerade',
  },
  {
    row: 28,
    reading: 'a node has no way of its own to its pods',
    objects: (objects) => objects.filter(({ kind }) => kind !== 'Node'),
  },
  {
    row: 28,
    reading: 'any node reaches any pod, and any pod any node',
    allowed: (world, { leaving, arriving }, truth) =>
      (truth.egress.allowed || world.nodeAt(leaving.destination) !== undefined) &&
      (truth.ingress.allowed || world.nodeAt(arriving.source) !== undefined),
    concerns: ({ path, through }) => path === 'other node' && through === 'directly',
  },
  {
    row: 29,
    reading: "a hostNetwork pod is a peer with its node's address",
    objects: eachPod(({ spec, ...pod }) =>
      spec['hostNetwork'] === true ? { ...pod, spec: { ...spec, hostNetwork: false } } : { ...pod, spec },
    ),
  },
  {
    row: 29,
    reading: 'a named port reaches a hostNetwork pod through a block',
    objects: (objects) => {
      const onHosts = objects.filter(({ kind, spec }) => kind === 'Pod' && (spec as Fields)['hostNetwork'] === true);
      return eachRule((rule) => {
        const blocks = (list(rule['to']) as Fields[]).filter((peer) => 'ipBlock' in peer);
        const ports = (list(rule['ports']) as Fields[]).filter(isNamed).flatMap((port) => united(onHosts, port));
        return blocks.length === 0 || ports.length === 0 ? rule : [rule, { to: blocks, ports }];
      })(objects);
    },
    concerns: ({ path }) => path === 'other node',
  },
  {
    row: 30,
    reading: 'what a pod sends to itself is judged like the rest',
    allowed: (world, probe) => {
      let asked = 0;
      const twoPods: World = {
        // As source and as destination it is another pod each time, with the same labels.
        podAt: (address) => {
          const pod = world.podAt(address);
          return pod && { ...pod, uid: `${pod.uid}/${asked++}` };
        },
        nodeAt: (address) => world.nodeAt(address),
        namespaceLabels: (namespace) => world.namespaceLabels(namespace),
        isolating: (pod, direction) => world.isolating({ ...pod }, direction),
      };
      return expectationOf(twoPods, probe).allowed;
    },
    concerns: ({ path }) => path === 'itself',
  },
  {
    row: 31,
    reading: 'masqueraded traffic is judged as if it came from the pod',
    allowed: (world, { leaving }) => expectationOf(world, { leaving, arriving: leaving }).allowed,
    concerns: ({ through }) => through === 'DNAT and masquerade',
  },
  {
    row: 32,
    reading: 'ICMP is never allowed to or from an isolated pod',
    objects: eachRule((rule) => (rule['ports'] === undefined ? { ...rule, ports: ALL_PROTOCOLS.map((protocol) => ({ protocol })) } : rule)),
    concerns: isIcmp,
  },
  {
    row: 32,
    reading: 'ICMP is allowed by rules with ports too',
    objects: eachRule((rule) => leaveOut(rule, 'ports')),
    concerns: isIcmp,
  },
  {
    row: 33,
    reading: 'a pod that has ended still counts',
    objects: eachPod((pod) => (isTerminal(pod) ? { ...pod, status: { ...pod.status, phase: 'Running' } } : pod)),
  },
  {
    row: 33,
    reading: 'an address is that of the newest pod, also if that one has ended',
    objects: (objects) => {
      const ended = new Map<unknown, number>();
      for (const { status, metadata } of objects.filter(isTerminal))
        ended.set(status['podIP'], Date.parse(String(metadata['creationTimestamp'])));
      const kept = objects.filter(({ kind, status, metadata }) => {
        const at = kind === 'Pod' ? ended.get((status as Fields)['podIP']) : undefined;
        return at === undefined || at < Date.parse(String(metadata['creationTimestamp']));
      });
      return kept.length === objects.length ? objects : kept;
    },
  },
  {
    row: 34,
    reading: 'a terminating pod is gone',
    objects: (objects) => without(objects, ({ kind, metadata }) => kind === 'Pod' && metadata['deletionTimestamp'] !== undefined),
  },
  {
    row: 35,
    reading: 'a pod counts once it is running',
    objects: (objects) => without(objects, ({ kind, status }) => kind === 'Pod' && (status as Fields)['phase'] === 'Pending'),
  },
  {
    row: 36,
    reading: "only the first of a pod's addresses counts",
    objects: eachPod((pod) =>
      list(pod.status['podIPs']).length > 1 ? { ...pod, status: { ...pod.status, podIPs: list(pod.status['podIPs']).slice(0, 1) } } : pod,
    ),
  },
  {
    row: 36,
    reading: 'a block of one family opens the other',
    objects: eachPeer((peer) => {
      const block = peer['ipBlock'];
      if (!hasKeys(block, 'cidr') || cannotBeRead(block) || Object.keys(peer).length > 1) return peer;
      return [peer, { ipBlock: { cidr: cidrOf(block).includes(':') ? '0.0.0.0/0' : '::/0' } }];
    }),
  },
  {
    row: 37,
    reading: 'a policy ends with its terminating namespace',
    objects: (objects) => {
      const terminating = new Set(
        objects.flatMap(({ kind, metadata }) =>
          kind === 'Namespace' && metadata['deletionTimestamp'] !== undefined ? [metadata.name] : [],
        ),
      );
      return without(objects, ({ kind, metadata }) => kind === 'NetworkPolicy' && terminating.has(metadata.namespace ?? ''));
    },
  },
  {
    row: 38,
    reading: 'labels are those that there were before',
    objects: (objects, before) => {
      if (before === undefined) return objects;
      const labels = new Map(before.map((object) => [keyOf(object), object.metadata['labels']]));
      let changed = false;
      const old = objects.map((object) => {
        const known = labels.get(keyOf(object));
        if (object.kind === 'NetworkPolicy' || known === undefined || known === object.metadata['labels']) return object;
        changed = true;
        return { ...object, metadata: { ...object.metadata, labels: known } };
      });
      return changed ? old : objects;
    },
  },
  {
    row: 39,
    reading: 'an unknown policyTypes entry has no effect',
    objects: eachPolicy((spec) => {
      const types = spec['policyTypes'];
      if (!Array.isArray(types)) return spec;
      return { ...spec, policyTypes: types.filter((type) => type === 'Ingress' || type === 'Egress') };
    }),
  },
  {
    row: 39,
    reading: 'an unknown protocol is TCP',
    objects: eachPort((port) =>
      port['protocol'] === undefined || ALL_PROTOCOLS.some((known) => known === port['protocol']) ? port : { ...port, protocol: 'TCP' },
    ),
  },
  {
    row: 40,
    reading: 'an address belongs to the oldest pod that claims it',
    objects: eachPod((pod) => {
      const createdAt = 3_400_000_000_000 - Date.parse(String(pod.metadata['creationTimestamp']));
      return { ...pod, metadata: { ...pod.metadata, creationTimestamp: new Date(createdAt).toISOString() } };
    }),
  },
];

function keyOf({ kind, metadata: { namespace, name } }: ApiObject): string {
  return `${kind} ${namespace}/${name}`;
}

function without(objects: readonly ApiObject[], predicate: (object: ApiObject) => boolean): readonly ApiObject[] {
  const kept = objects.filter((object) => !predicate(object));
  return kept.length === objects.length ? objects : kept;
}

function isTerminal(object: ApiObject): object is ApiObject & { readonly status: Fields } {
  const phase = object.kind === 'Pod' ? (object['status'] as Fields)['phase'] : undefined;
  return phase === 'Succeeded' || phase === 'Failed';
}

function podsOnly(rule: Fields, { side }: { readonly side: string }): boolean {
  // Without `to` an egress rule would open external addresses too, which is row 17's affair.
  return side === 'from' || list(rule[side]).length > 0;
}

/** `matchLabels: {k: ""}` asks something else of k. */
function emptyValues(selector: Fields, operator: 'Exists' | 'DoesNotExist'): Fields {
  const labels = Object.entries((selector['matchLabels'] ?? {}) as Fields);
  const keys = labels.flatMap(([key, value]) => (value === '' ? [key] : []));
  if (keys.length === 0) return selector;
  return {
    ...selector,
    matchLabels: Object.fromEntries(labels.filter(([, value]) => value !== '')),
    matchExpressions: [...list(selector['matchExpressions']), ...keys.map((key) => ({ key, operator }))],
  };
}

function rulesOf(spec: Fields): Fields[] {
  return ['ingress', 'egress'].flatMap((direction) => list(spec[direction]) as Fields[]);
}

function blocksOf(spec: Fields): Fields[] {
  return rulesOf(spec).flatMap((rule) =>
    [...list(rule['from']), ...list(rule['to'])].flatMap((peer) => (hasKeys(peer, 'ipBlock') ? [peer['ipBlock'] as Fields] : [])),
  );
}

function mapBlocks(spec: Fields, change: (block: Fields) => Fields): Fields {
  const peers = (value: unknown): unknown =>
    list(value).map((peer) => (hasKeys(peer, 'ipBlock') ? { ...peer, ipBlock: change(peer['ipBlock'] as Fields) } : peer));
  const rules = (value: unknown): unknown =>
    list(value).map((rule) => {
      const { from, to, ...rest } = rule as Fields;
      return { ...rest, ...(from === undefined ? {} : { from: peers(from) }), ...(to === undefined ? {} : { to: peers(to) }) };
    });
  const { ingress, egress, ...rest } = spec;
  return {
    ...rest,
    ...(ingress === undefined ? {} : { ingress: rules(ingress) }),
    ...(egress === undefined ? {} : { egress: rules(egress) }),
  };
}

/** Where all that a direction names is of one protocol, TCP is let through. */
function leaveAlone(spec: Fields, protocol: string): Fields {
  const open = (direction: string): Fields => {
    const rules = list(spec[direction]) as Fields[];
    const ports = rules.flatMap((rule) => (rule['ports'] === undefined ? [undefined] : (list(rule['ports']) as Fields[])));
    if (ports.length === 0 || ports.some((port) => port?.['protocol'] !== protocol)) return {};
    return { [direction]: [...rules, { ports: [{ protocol: 'TCP' }] }] };
  };
  return { ...spec, ...open('ingress'), ...open('egress') };
}

/** Worlds of one cluster as each misreading has it; made once, asked for every probe. */
export class MisreadCluster {
  readonly #world: World;
  readonly #worlds: readonly (readonly [misreading: Misreading, world: World])[];

  /** @param before the objects of the state before, where only some things have changed since */
  constructor(objects: readonly ApiObject[], before: readonly ApiObject[] | undefined, only?: ReadonlySet<Misreading>) {
    this.#world = worldFrom(objects);
    this.#worlds = MISREADINGS.flatMap((misreading) => {
      if (only !== undefined && !only.has(misreading)) return [];
      if (misreading.objects === undefined) return [[misreading, this.#world] as const];
      const misread = misreading.objects(objects, before);
      return misread === objects ? [] : [[misreading, worldFrom(misread)] as const];
    });
  }

  /** The misreadings under which the probe would go the other way. */
  shownBy(probe: Probe, truth: Expectation): Misreading[] {
    return this.#worlds.flatMap(([misreading, world]) => {
      if (misreading.concerns !== undefined && !misreading.concerns(probe)) return [];
      return allowedBy(misreading, world, probe, truth) === truth.allowed ? [] : [misreading];
    });
  }
}

function allowedBy(misreading: Misreading, world: World, probe: Probe, truth: Expectation): boolean {
  if (misreading.allowed !== undefined) return misreading.allowed(world, probe, truth);
  const { egress, ingress } = expectationOf(world, probe);
  // Nobody enforces anything on nodes and outside, whatever pods are taken to be there.
  return (!probe.from.startsWith('slot/') || egress.allowed) && (!probe.to.startsWith('slot/') || ingress.allowed);
}
