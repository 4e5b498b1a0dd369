/** Whether the pod network has its addresses to itself: interfaces, routes and nodes that have some of them take packets away from pods. */
import { contains, isOverlayName } from '../network/devices.ts';
import { familiesOf } from '../network/net-conf.ts';
import { familyOf, formatAddress, formatPrefix, networkAddress, type Prefix } from '../policy/address.ts';
import { ROUTE_PROTOCOL, type Route } from '../rtnetlink/routes.ts';
import type { Evidence, KernelTables } from './evidence.ts';
import { overlap } from '../network/refusal.ts';
import { familiesOfLease, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy } from './report.ts';
import { lines, word } from './shell-text.ts';

/** kube-proxy in its mode ipvs puts the addresses of services here. */
const SERVICE_DEVICE = 'kube-ipvs0';

export function checkAddresses(evidence: Evidence): CheckOutcome {
  const { tables, conf, leases, settings } = evidence;
  if ('blind' in tables) return blind(tables.blind);
  const networks = familiesOf(conf).map(({ network }) => network);
  const own = ownSubnets(evidence);
  const ours = ourLinks(evidence, tables.seen);
  const findings = networks.flatMap((network) => [
    ...addressesInside(network, own, ours, tables.seen, settings.netConfigPath),
    ...routesInside(network, own, ours, tables.seen, settings.netConfigPath),
  ]);
  if ('blind' in leases) return { findings, blind: leases.blind };
  for (const lease of leases.seen.peers) {
    for (const [, { publicAddress }] of familiesOfLease(lease)) {
      const network = networks.find((each) => contains(each, publicAddress));
      if (network === undefined) continue;
      findings.push({
        code: 'PUBLIC_ADDRESS_IN_NETWORK',
        severity: 'error',
        subject: lease.node,
        message: `its public address ${formatAddress(publicAddress)} is of the pod network ${formatPrefix(network)}: packets to it would have to go through themselves`,
        evidence: [
          `lease of ${lease.node}: public address ${formatAddress(publicAddress)}`,
          `${settings.netConfigPath}: ${formatPrefix(network)}`,
        ],
        remedy: `# On ${lease.node}: --iface with the interface that other nodes reach, and its daemon started again.`,
      });
    }
  }
  return foundBy(findings);
}

function ownSubnets(evidence: Evidence): readonly Prefix[] {
  const plan = planOf(evidence);
  return 'seen' in plan ? plan.seen.families.map(({ subnet }) => subnet) : [];
}

/** Indexes of the links that have to do with pods. */
function ourLinks({ settings }: Evidence, { links }: KernelTables): ReadonlySet<number> {
  return new Set(links.filter(({ name }) => isOverlayName(name) || name === settings.bridge).map(({ index }) => index));
}

function addressesInside(
  network: Prefix,
  own: readonly Prefix[],
  ours: ReadonlySet<number>,
  { links, addresses }: KernelTables,
  path: string,
): Finding[] {
  const findings: Finding[] = [];
  for (const { index, name } of links) {
    if (ours.has(index)) continue;
    // What has an address of this node's subnet is for its pods: another bridge, the node's end of a pod's link.
    const inside = addresses.filter(
      (each) => each.link === index && contains(network, each.address) && !own.some((subnet) => contains(subnet, each.address)),
    );
    const around = addresses.filter((each) => {
      if (each.link !== index || familyOf(each.address) !== familyOf(network.address) || each.prefixLength === 0) return false;
      const connected = { address: networkAddress(each.address, each.prefixLength), length: each.prefixLength };
      return !inside.includes(each) && connected.length < network.length && contains(connected, network.address);
    });
    if (inside.length > 0) {
      const isService = name === SERVICE_DEVICE;
      findings.push({
        code: isService ? 'SERVICE_ADDRESS_IN_NETWORK' : 'NODE_ADDRESS_IN_NETWORK',
        severity: 'error',
        subject: name,
        message: isService
          ? `services have addresses of the pod network ${formatPrefix(network)}: the two have to be apart`
          : `this node has addresses of the pod network ${formatPrefix(network)} on it, which pods of other nodes may have too`,
        evidence: [
          ...inside.slice(0, 20).map((each) => `address of ${name}: ${formatAddress(each.address)}/${each.prefixLength}`),
          `${path}: ${formatPrefix(network)}`,
        ],
        remedy: isService
          ? '# kube-apiserver: --service-cluster-ip-range with a block outside of the pod network (kubeadm: --service-cidr).'
          : lines(
              '# Where it is not needed any more; else the pod network has to be another one, on all nodes:',
              inside.map((each) => `ip address del ${formatAddress(each.address)}/${each.prefixLength} dev ${word(name)}`),
            ),
      });
    }
    for (const each of around) {
      findings.push({
        code: 'NETWORK_IN_UNDERLAY',
        severity: 'warning',
        subject: name,
        message: `the pod network ${formatPrefix(network)} is a part of the segment it is on: hosts there with such an address cannot be reached`,
        evidence: [`address of ${name}: ${formatAddress(each.address)}/${each.prefixLength}`, `${path}: ${formatPrefix(network)}`],
        remedy: '# Another Network in net-conf.json, and another --cluster-cidr of kube-controller-manager; nodes have to be made anew.',
      });
    }
  }
  return findings;
}

/** Routes into the network that no network daemon makes: of a VPN, of DHCP, by hand. */
function routesInside(
  network: Prefix,
  own: readonly Prefix[],
  ours: ReadonlySet<number>,
  { links, routes }: KernelTables,
  path: string,
): Finding[] {
  const foreign = routes.filter(
    (route) =>
      familyOf(route.destination.address) === familyOf(network.address) &&
      route.destination.length >= network.length &&
      overlap(network, route.destination) &&
      !isOurs(route, ours) &&
      !own.some((subnet) => overlap(subnet, route.destination)),
  );
  return foreign.map(({ destination, gateway, link, protocol }): Finding => {
    const device = links.find(({ index }) => index === link)?.name;
    const via = [gateway === undefined ? '' : ` via ${formatAddress(gateway)}`, device === undefined ? '' : ` dev ${device}`].join('');
    return {
      code: 'ROUTE_IN_NETWORK',
      severity: 'warning',
      subject: formatPrefix(destination),
      message: `a route that is not of the pod network leads into it (${formatPrefix(network)}): pods with such an address cannot be reached`,
      evidence: [`route ${formatPrefix(destination)}${via} proto ${protocol}`, `${path}: ${formatPrefix(network)}`],
      remedy: lines(
        '# Whoever made it (a VPN, DHCP) makes it again, unless told not to:',
        `ip route del ${formatPrefix(destination)}${via}`,
      ),
    };
  });
}

/** Those with the protocol boot are the daemon's, or left over from one, and are compared with what is wanted elsewhere. */
function isOurs({ link, protocol, type }: Route, ours: ReadonlySet<number>): boolean {
  return (
    (link !== undefined && ours.has(link)) || protocol === ROUTE_PROTOCOL.boot || protocol === ROUTE_PROTOCOL.kernel || type !== 'unicast'
  );
}
