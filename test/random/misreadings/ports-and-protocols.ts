/** Rows 12 to 18, 23, 24 and 32: which ports and protocols a rule means. */
import { eachPod, eachPolicy, eachPort, eachRule, type Fields } from '../rewrite.ts';
import { expectationOf, type Probe } from '../probes.ts';
import type { Misreading } from './misreading.ts';
import { ALL_PROTOCOLS, fieldsOf, isIcmp, isNamed, isService, leaveOut, list, united } from './parts.ts';

const isTCP = ({ protocol }: Probe): boolean => protocol === 'TCP';

function podsOnly(rule: Fields, { side }: { readonly side: string }): boolean {
  // Without `to` an egress rule would open external addresses too, which is row 17's affair.
  return side === 'from' || list(rule[side]).length > 0;
}

/** Where all that a direction names is of one protocol, TCP is let through. */
function leaveAlone(spec: Fields, protocol: string): Fields {
  const open = (direction: string): Fields => {
    const rules = fieldsOf(spec[direction]);
    const namesOnlyThat = (rule: Fields): boolean =>
      rule['ports'] !== undefined && fieldsOf(rule['ports']).every((port) => port['protocol'] === protocol);
    if (rules.length === 0 || !rules.every(namesOnlyThat)) return {};
    return { [direction]: [...rules, { ports: [{ protocol: 'TCP' }] }] };
  };
  return { ...spec, ...open('ingress'), ...open('egress') };
}

export const PORTS_AND_PROTOCOLS: readonly Misreading[] = [
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
      const named = fieldsOf(rule['ports']).filter(isNamed);
      return named.length === 0 || direction === 'egress' ? rule : [rule, { ports: named }];
    }),
  },
  {
    row: 15,
    reading: 'an egress rule with a named port admits every pod that has one, whatever its blocks',
    objects: eachRule((rule) => {
      const named = fieldsOf(rule['ports']).filter(isNamed);
      const hasBlock = fieldsOf(rule['to']).some((peer) => 'ipBlock' in peer);
      return named.length === 0 || !hasBlock ? rule : [rule, { ports: named }];
    }),
  },
  {
    row: 15,
    reading: 'of a port name that has two numbers in a pod, only the first counts',
    objects: eachPod(({ spec, ...pod }) => {
      const seen = new Set<string>();
      const isFirst = ({ name, protocol = 'TCP' }: Fields): boolean => seen.size < seen.add(`${String(name)} ${String(protocol)}`).size;
      const containers = fieldsOf(spec['containers']).map((each) => ({
        ...each,
        ports: fieldsOf(each['ports']).filter(isFirst),
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
];
