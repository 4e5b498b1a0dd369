/** Named ports of ingress rules that lead nowhere: valid, in force, and rarely what was meant. */
import type { Pod, Policy, Problem } from './objects.ts';
import { selects } from './selector.ts';
import { ownsAddresses } from './world.ts';

/**
 * Ports of `policy` that none of the pods it selects declares by this name and protocol (rows 15 and 16). None where it selects no pod:
 * there may be some later.
 *
 * @param pods of the policy's namespace; others are passed over
 */
export function undeclaredPorts(policy: Policy, pods: Iterable<Pod>): readonly Problem[] {
  const named = (policy.ingress ?? []).flatMap(({ index, ports = [] }) =>
    ports.flatMap((port) => (port.kind === 'name' ? [{ ...port, path: `spec.ingress[${index}].ports[${port.index}].port` }] : [])),
  );
  if (named.length === 0) return [];
  const declared = new Set<string>();
  let selected = 0;
  for (const pod of pods) {
    if (pod.namespace !== policy.namespace || !ownsAddresses(pod) || !selects(policy.subject, pod.labels)) continue;
    selected++;
    for (const { name, protocol } of pod.ports) declared.add(`${protocol} ${name}`);
  }
  if (selected === 0) return [];
  return named
    .filter(({ protocol, name }) => !declared.has(`${protocol} ${name}`))
    .map(({ path, protocol, name }) => ({
      path,
      code: 'PORT_NAME_UNDECLARED',
      message: `no container of a pod that the policy selects declares a port "${name}" for ${protocol}; the entry admits nothing. A port can also be given as a number`,
    }));
}
