/** Overlay devices that belong to no backend in use: an earlier VNI or backend, or another flannel daemon on the same node. */
import { contains, isOverlayName } from '../network/devices.ts';
import { familiesOf } from '../network/net-conf.ts';
import { formatAddress } from '../policy/address.ts';
import type { Evidence } from './evidence.ts';
import { planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy } from './report.ts';
import { lines, word } from './shell-text.ts';

export function checkLeftovers(evidence: Evidence): CheckOutcome {
  const { tables, conf } = evidence;
  if ('blind' in tables) return blind(tables.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const wanted = new Set(plan.seen.devices.map(({ name }) => name));
  const networks = familiesOf(conf).map(({ network }) => network);
  const findings: Finding[] = [];
  for (const { index, name, kind, vxlan } of tables.seen.links) {
    if (!isOverlayName(name) || wanted.has(name)) continue;
    const own = tables.seen.addresses.filter(({ link }) => link === index);
    const inside = own.filter(({ address }) => networks.some((network) => contains(network, address)));
    const texts = own.map(({ address, prefixLength }) => `${formatAddress(address)}/${prefixLength}`);
    const isOpen = kind === 'tun';
    findings.push({
      code: inside.length > 0 ? 'DEVICE_LEFT_OVER' : 'DEVICE_FOREIGN',
      severity: inside.length > 0 ? 'error' : 'warning',
      subject: name,
      message:
        (inside.length > 0
          ? 'it belongs to no backend in use and has an address of the pod network: a second way to it'
          : 'it belongs to no backend in use: an earlier one left it') +
        (isOpen ? ', and a program holds it open: a flanneld with the backend udp is running' : ', or another flannel daemon is running'),
      evidence: [
        `link ${name}: kind ${kind || 'none'}${vxlan === undefined ? '' : `, VNI ${vxlan.vni}, port ${vxlan.port}`}`,
        `addresses of ${name}: ${texts.length === 0 ? 'none' : texts.join(', ')}`,
        `in use: ${[...wanted].join(', ') || 'no device'} (net-conf.json: ${conf.backend.type})`,
      ],
      remedy: lines('# Where another daemon is running, stop that first: it makes its device again.', `ip link del ${word(name)}`),
    });
  }
  return foundBy(findings);
}
