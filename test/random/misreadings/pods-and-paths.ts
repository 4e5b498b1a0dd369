/** Rows 25 to 40: how directions unite, whose an address is, and when. */
import type { Pod } from '../../../src/policy/objects.ts';
import type { Labels } from '../../../src/policy/labels.ts';
import type { ApiObject } from '../cluster.ts';
import { objectName } from '../lab-cluster.ts';
import { expectationOf } from '../probes.ts';
import { eachPod, eachPolicy, eachPort, eachRule, type Fields } from '../rewrite.ts';
import { worldFrom } from '../world.ts';
import type { Misreading } from './misreading.ts';
import { ALL_PROTOCOLS, fieldsOf, isNamed, united, without } from './parts.ts';

/** The objects of a kind with the labels that they had before; the same list where they are the same. */
function withLabelsOf(
  before: readonly ApiObject[] | undefined,
  objects: readonly ApiObject[],
  kind: ApiObject['kind'],
): readonly ApiObject[] {
  const labels = new Map(
    (before ?? []).filter((object) => object.kind === kind).map(({ metadata }) => [metadata.name, metadata['labels']]),
  );
  let changed = false;
  const old = objects.map((object) => {
    const known = object.kind === kind ? labels.get(object.metadata.name) : undefined;
    if (known === undefined || known === object.metadata['labels']) return object;
    changed = true;
    return { ...object, metadata: { ...object.metadata, labels: known } };
  });
  return changed ? old : objects;
}

/** Of every pod, by `namespace/name`. */
function podLabels(objects: readonly ApiObject[] | undefined): ReadonlyMap<string, Labels> | undefined {
  if (objects === undefined) return undefined;
  const pods = objects.filter(({ kind }) => kind === 'Pod');
  return new Map(
    pods.map(({ metadata: { namespace, name, labels } }) => [
      `${namespace}/${name}`,
      new Map(Object.entries(labels as Record<string, string>)),
    ]),
  );
}

function misreadPod(pod: Pod | undefined, change: (pod: Pod) => Partial<Pod>): Pod | undefined {
  return pod && { ...pod, ...change(pod) };
}

function isTerminal(object: ApiObject): object is ApiObject & { readonly status: Fields } {
  const phase = object.kind === 'Pod' ? (object['status'] as Fields)['phase'] : undefined;
  return phase === 'Succeeded' || phase === 'Failed';
}

export const PODS_AND_PATHS: readonly Misreading[] = [
  {
    row: 25,
    reading: 'the first policy that isolates a pod decides alone',
    world: (world) => ({ ...world, isolating: (pod, direction) => world.isolating(pod, direction).slice(0, 1) }),
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
        const blocks = fieldsOf(rule['to']).filter((peer) => 'ipBlock' in peer);
        const ports = fieldsOf(rule['ports'])
          .filter(isNamed)
          .flatMap((port) => united(onHosts, port));
        return blocks.length === 0 || ports.length === 0 ? rule : [rule, { to: blocks, ports }];
      })(objects);
    },
    concerns: ({ path }) => path === 'other node',
  },
  {
    row: 30,
    reading: 'what a pod sends to itself is judged like the rest',
    world: (world) => {
      let asked = 0;
      // As source and as destination it is another pod each time, with the same labels.
      return { ...world, podAt: (address) => misreadPod(world.podAt(address), (pod) => ({ uid: `${pod.uid}/${asked++}` })) };
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
    row: 33,
    change: 'pods',
    reading: 'a pod that ends or goes keeps its address',
    objects: (objects, before) => {
      const there = new Map(objects.map((object) => [objectName(object), object]));
      const kept = (before ?? []).filter((pod) => {
        const now = there.get(objectName(pod));
        return pod.kind === 'Pod' && !isTerminal(pod) && (now === undefined || isTerminal(now));
      });
      const names = new Set(kept.map(objectName));
      return kept.length === 0 ? objects : [...objects.filter((object) => !names.has(objectName(object))), ...kept];
    },
  },
  {
    row: 33,
    change: 'pods',
    reading: 'an address that its newest pod has left belongs to nobody',
    world: (world, before) => {
      if (before === undefined) return undefined;
      const earlier = worldFrom(before);
      return {
        ...world,
        podAt: (address) => {
          const [was, is] = [earlier.podAt(address), world.podAt(address)];
          return was !== undefined && is !== undefined && was.uid !== is.uid && was.createdAt > is.createdAt ? undefined : is;
        },
      };
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
    row: 35,
    change: 'pods',
    reading: 'a pod that has come since the rules were made is nobody',
    objects: (objects, before) => {
      if (before === undefined) return objects;
      const known = new Set(before.map(objectName));
      return without(objects, (object) => object.kind === 'Pod' && !known.has(objectName(object)));
    },
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
    change: 'labels',
    reading: "a namespace's labels are those that it had before",
    objects: (objects, before) => withLabelsOf(before, objects, 'Namespace'),
  },
  {
    row: 38,
    change: 'labels',
    reading: 'as a peer, a pod has the labels that it had before',
    world: (world, before) => {
      const labels = podLabels(before);
      if (labels === undefined) return undefined;
      const truth = new WeakMap<Pod, Pod>();
      return {
        ...world,
        podAt: (address) => {
          const pod = world.podAt(address);
          const misread = misreadPod(pod, ({ namespace, name }) => ({
            labels: labels.get(`${namespace}/${name}`) ?? pod?.labels ?? new Map(),
          }));
          if (pod !== undefined && misread !== undefined) truth.set(misread, pod);
          return misread;
        },
        isolating: (pod, direction) => world.isolating(truth.get(pod) ?? pod, direction),
      };
    },
  },
  {
    row: 38,
    change: 'labels',
    reading: 'the policies that select a pod are those that did before its labels changed',
    world: (world, before) => {
      const labels = podLabels(before);
      if (labels === undefined) return undefined;
      return {
        ...world,
        isolating: (pod, direction) => {
          const known = labels.get(`${pod.namespace}/${pod.name}`);
          return world.isolating(known === undefined ? pod : { ...pod, labels: known }, direction);
        },
      };
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
