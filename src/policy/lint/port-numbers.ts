/** Numbers of ports that the pods have under another protocol, or that are a Service's and not the pods' (rows 12, 18). */
import type { Direction, Pod, Policy, PortMatch, Rule } from '../objects.ts';
import { DIRECTIONS, finding, type Finding, rulePath } from './finding.ts';
import { portMatches } from '../ports.ts';
import { portCovered } from './implication.ts';
import type { Check, LintCluster, LintService } from './input.ts';

type NumberMatch = Extract<PortMatch, { kind: 'numbers' }>;

export const portNumbers: Check = {
  codes: ['PORT_PROTOCOL_DIFFERS', 'PORT_IS_OF_SERVICE'],
  needs: 'pods',
  *run(cluster): Iterable<Finding> {
    const services = byPort(cluster.services);
    for (const policy of cluster.policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          const single = (rule.ports ?? []).filter((port): port is NumberMatch => port.kind === 'numbers' && port.first === port.last);
          if (single.length === 0) continue;
          const destinations = destinationsOf(policy, direction, rule, cluster);
          if (destinations.length === 0) continue;
          for (const port of single) {
            const path = `${rulePath(direction, rule)}.ports[${port.index}]`;
            // Whatever is declared is right, and a pod that declares nothing may serve anything.
            if (destinations.some(({ declaredPorts }) => declaredPorts.length === 0 || declaredPorts.some((own) => isAt(own, port))))
              continue;
            yield* otherProtocol(policy, direction, port, path, destinations);
            yield* ofService(policy, direction, port, path, destinations, services.get(`${port.protocol} ${port.first}`) ?? []);
          }
        }
      }
    }
  },
};

function isAt(own: { readonly protocol: string; readonly port: number }, { protocol, first }: NumberMatch): boolean {
  return own.port === first && own.protocol === protocol;
}

/** All that the policy admits in this direction: what stands in another rule has been thought of. */
function portsOf(policy: Policy, direction: Direction): readonly PortMatch[] {
  return (policy[direction] ?? []).flatMap(({ ports = [] }) => ports);
}

/** Pods and workloads whose ports the rule is about; none where not all of them are known. */
function destinationsOf(policy: Policy, direction: Direction, rule: Rule, { groups }: LintCluster): readonly Pod[] {
  const selecting = (rule.peers ?? []).filter((peer) => peer.kind === 'pods');
  if (direction === 'egress' && (rule.peers === undefined || selecting.length < rule.peers.length)) return [];
  const found = direction === 'ingress' ? groups.subjects(policy) : selecting.flatMap((peer) => groups.peers(peer, policy.namespace));
  return found.flatMap(({ pods, templates }) => [...pods, ...templates]);
}

function* otherProtocol(
  policy: Policy,
  direction: Direction,
  port: NumberMatch,
  path: string,
  destinations: readonly Pod[],
): Iterable<Finding> {
  const declared = destinations.flatMap(({ declaredPorts }) => declaredPorts).find((own) => own.port === port.first);
  if (declared === undefined || portCovered({ ...port, protocol: declared.protocol }, portsOf(policy, direction))) return;
  const message = `the entry admits ${port.first}/${port.protocol}, and the pods declare ${port.first}/${declared.protocol}; an entry without a protocol is TCP`;
  yield finding('PORT_PROTOCOL_DIFFERS', policy, path, message, `write {protocol: ${declared.protocol}, port: ${port.first}}`);
}

function byPort(services: readonly LintService[]): ReadonlyMap<string, readonly LintService[]> {
  const found = new Map<string, LintService[]>();
  for (const service of services) {
    // Of a headless one nothing is translated.
    if (service.headless || service.selector === undefined) continue;
    for (const { protocol, port } of service.ports) {
      const key = `${protocol} ${port}`;
      const known = found.get(key);
      if (known === undefined) found.set(key, [service]);
      else known.push(service);
    }
  }
  return found;
}

function* ofService(
  policy: Policy,
  direction: Direction,
  port: NumberMatch,
  path: string,
  destinations: readonly Pod[],
  services: readonly LintService[],
): Iterable<Finding> {
  for (const service of services) {
    const behind = destinations.find((pod) => pod.namespace === service.namespace && isBehind(service, pod));
    const at = service.ports.find((one) => one.port === port.first && one.protocol === port.protocol);
    if (behind === undefined || at === undefined) continue;
    const target = targetOf(at.targetPort, at.protocol, behind);
    if (target === undefined || target === port.first) continue;
    if (portsOf(policy, direction).some((match) => portMatches(match, at.protocol, target, behind))) continue;
    const message = `${port.first} is the port of the Service ${service.namespace}/${service.name}, and its pods are reached at ${target}: policy is asked after the translation, and the entry admits nothing`;
    yield finding('PORT_IS_OF_SERVICE', policy, path, message, `write the port of the pods: ${target}`);
    return;
  }
}

function isBehind({ selector = {} }: LintService, { labels }: Pod): boolean {
  const entries = Object.entries(selector);
  return entries.length > 0 && entries.every(([key, value]) => labels.get(key) === value);
}

function targetOf(targetPort: number | string, protocol: string, pod: Pod): number | undefined {
  if (typeof targetPort === 'number') return targetPort;
  return pod.ports.find((own) => own.name === targetPort && own.protocol === protocol)?.port;
}
