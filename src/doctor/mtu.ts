/** Sizes of packets, from the interface to the pods: none may be larger than what it is put into has room for. */
import { parseSubnetEnv } from '../network/subnet-env.ts';
import type { Link } from '../rtnetlink/links.ts';
import type { Evidence } from './evidence.ts';
import { type Plan, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy } from './report.ts';
import { lines, word } from './shell-text.ts';

export function checkMtu(evidence: Evidence): CheckOutcome {
  const { tables, conf, settings, subnetFile } = evidence;
  if ('blind' in tables) return blind(tables.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const { backend, external } = plan.seen;
  const { links } = tables.seen;
  const findings = checkDevices(plan.seen, links);
  const { mtu } = backend;
  const because = `link ${external.name}: mtu ${external.mtu}, of which the backend ${conf.backend.type} leaves ${mtu} to pods`;

  // flanneld tells the size of IPv4 where IPv6 has less: what does not fit is refused on the node itself, which says so to the pod.
  const most = plan.seen.devices.reduce((largest, device) => Math.max(largest, device.mtu), mtu);
  const severityOf = (size: number): Finding['severity'] => (size > most ? 'warning' : 'notice');
  const tooLarge = (size: number): string =>
    size > most
      ? `more than the ${mtu} that get to other nodes: larger packets get there only where the pod hears that they were too large`
      : `more than the ${mtu} that get to other nodes over IPv6: the pod has to hear, by ICMPv6, that larger ones were refused`;

  const bridge = links.find(({ name, kind }) => name === settings.bridge && kind === 'bridge');
  const ports = bridge === undefined ? [] : links.filter((link) => link.master === bridge.index);
  // Those that are too large whatever the bridge has are told by themselves.
  const cramped = bridge === undefined ? [] : ports.filter((link) => link.mtu > bridge.mtu && link.mtu <= mtu);
  if (bridge !== undefined && (bridge.mtu > mtu || cramped.length > 0)) {
    findings.push({
      code: 'MTU_BRIDGE',
      severity: bridge.mtu > mtu ? severityOf(bridge.mtu) : 'warning',
      subject: bridge.name,
      message:
        bridge.mtu > mtu
          ? `its MTU is ${bridge.mtu}, ${tooLarge(bridge.mtu)}`
          : `its MTU is ${bridge.mtu}, less than that of ${cramped.length} of its ports: what is larger is lost on it`,
      evidence: [`link ${bridge.name}: mtu ${bridge.mtu}`, ...cramped.map((link) => `link ${link.name}: mtu ${link.mtu}`), because],
      remedy: `ip link set dev ${word(bridge.name)} mtu ${mtu}`,
    });
  }
  const large = ports.filter((link) => link.mtu > mtu);
  if (bridge !== undefined && large.length > 0) {
    const size = large.reduce((largest, link) => Math.max(largest, link.mtu), 0);
    findings.push({
      code: 'MTU_POD',
      severity: severityOf(size),
      subject: `ports of ${bridge.name}`,
      message: `${large.length} of ${ports.length} have an MTU of up to ${size}, ${tooLarge(size)}`,
      evidence: [...large.map((link) => `link ${link.name}: mtu ${link.mtu}`), because],
      remedy: lines(
        '# This is the node’s end; the pod’s own end gets the right MTU when the pod is made anew.',
        large.map((link) => `ip link set dev ${word(link.name)} mtu ${mtu}`),
      ),
    });
  }
  const text = 'seen' in subnetFile ? subnetFile.seen : undefined;
  const told = text === undefined ? undefined : parseSubnetEnv(text).mtu;
  if (settings.subnetFile !== undefined && told !== undefined && told !== mtu) {
    findings.push({
      code: 'MTU_SUBNET_FILE',
      severity: told > mtu ? severityOf(told) : 'notice',
      subject: settings.subnetFile,
      message:
        told > mtu
          ? `it tells pods to send packets of up to ${told} bytes, ${tooLarge(told)}`
          : `it tells pods to send no more than ${told} bytes, and there is room for ${mtu}`,
      evidence: [`${settings.subnetFile}: FLANNEL_MTU=${told}`, because],
      remedy: lines(
        `sed -i 's/^FLANNEL_MTU=.*/FLANNEL_MTU=${mtu}/' ${word(settings.subnetFile)}`,
        '# Pods that are there already keep the MTU that they were made with; flanneld writes its own again when it starts.',
      ),
    });
  }
  return foundBy(findings);
}

function checkDevices({ devices, external, outerMtu }: Plan, links: readonly Link[]): Finding[] {
  return devices.flatMap(({ name, mtu }): Finding[] => {
    const link = links.find((each) => each.name === name);
    if (link === undefined || link.mtu === mtu) return [];
    const isLarge = link.mtu > mtu;
    return [
      {
        code: 'MTU_DEVICE',
        severity: isLarge ? 'error' : 'warning',
        subject: name,
        message: isLarge
          ? `its MTU is ${link.mtu}: with what is put around it, a packet of that size does not fit into the ${outerMtu} bytes that go between nodes`
          : `its MTU is ${link.mtu}, less than the ${mtu} that there is room for: large packets of pods are lost or cut up`,
        evidence: [
          `link ${name}: mtu ${link.mtu}`,
          `link ${external.name}: mtu ${external.mtu}; between nodes ${outerMtu}, so ${mtu} for ${name}`,
        ],
        remedy: `ip link set dev ${word(name)} mtu ${mtu}`,
      },
    ];
  });
}
