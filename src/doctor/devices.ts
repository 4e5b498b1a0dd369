/** The backend's devices: there, made of the right parts, up, and with the addresses that they should have. */
import { contains, incompatibility, type OverlayDevice } from '../network/devices.ts';
import type { ExternalInterface } from '../network/external-interface.ts';
import { familyOf, formatAddress, widthOf } from '../policy/address.ts';
import type { InterfaceAddress } from '../rtnetlink/addresses.ts';
import type { Link } from '../rtnetlink/links.ts';
import type { Evidence, KernelTables } from './evidence.ts';
import { planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, type FindingCode, foundBy, idle } from './report.ts';
import { lines, word } from './shell-text.ts';

export function checkDevices(evidence: Evidence): CheckOutcome {
  const { tables, conf } = evidence;
  if ('blind' in tables) return blind(tables.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  const { devices, external } = plan.seen;
  if (devices.length === 0) return idle(`the backend ${conf.backend.type} has no devices`);
  return foundBy(devices.flatMap((device) => checkDevice(device, external, tables.seen)));
}

function checkDevice(device: OverlayDevice, external: ExternalInterface, tables: KernelTables): Finding[] {
  const { name } = device;
  const link = tables.links.find((each) => each.name === name);
  const finding = (code: FindingCode, message: string, evidence: readonly string[], remedy: string): Finding => {
    return { code, severity: 'error', subject: name, message, evidence, remedy };
  };
  if (link === undefined) {
    const rival = rivalOf(device, tables.links);
    if (rival !== undefined) {
      const message = `it is not there, and cannot be made: ${rival.name} has its VNI and port`;
      return [finding('VNI_TAKEN', message, [describe(rival)], lines(`ip link del ${word(rival.name)}`, makeCommands(device, external)))];
    }
    const message = 'it is not there: no packet gets to the pods of other nodes';
    return [finding('DEVICE_MISSING', message, [`link ${name}: not there`], lines(makeCommands(device, external)))];
  }
  const reason = incompatibility(device, link);
  if (reason !== undefined) {
    const remedy = lines(
      device.kind === 'vxlan' && link.vxlan?.underlay !== device.underlay
        ? `# Where the daemon was started with --iface, say the same here: this supposes ${external.name}.`
        : undefined,
      `ip link del ${word(name)}`,
      makeCommands(device, external),
    );
    return [finding('DEVICE_WRONG', reason, [describe(link)], remedy)];
  }
  const findings: Finding[] = [];
  if (!link.up) {
    const remedy = lines(`ip link set dev ${word(name)} up`, '# Its routes went when it was set down: look again.');
    findings.push(finding('DEVICE_DOWN', 'it is down', [`link ${name}: down`], remedy));
  }
  if (device.kind === 'vxlan' && link.vxlan?.learning !== device.learning) {
    findings.push({
      code: 'DEVICE_LEARNING',
      severity: 'warning',
      subject: name,
      message: device.learning
        ? 'it does not learn, and net-conf.json wants it to'
        : 'it learns from what it receives: whoever can send to it decides where packets go',
      evidence: [`link ${name}: learning ${link.vxlan?.learning === true ? 'on' : 'off'}`],
      remedy: `ip link set dev ${word(name)} type vxlan ${device.learning ? 'learning' : 'nolearning'}`,
    });
  }
  return [...findings, ...checkAddresses(device, link, tables.addresses)];
}

function checkAddresses(device: OverlayDevice, link: Link, all: readonly InterfaceAddress[]): Finding[] {
  const { name, networks } = device;
  const own = all.filter((each) => each.link === link.index && each.scope !== 'link');
  const evidence = [`addresses of ${name}: ${own.length === 0 ? 'none' : own.map(show).join(', ')}`];
  const isWanted = ({ address, prefixLength, family }: InterfaceAddress): boolean =>
    device.addresses.includes(address) && prefixLength === widthOf(family);
  const findings: Finding[] = [];
  for (const address of device.addresses) {
    const text = `${formatAddress(address)}/${widthOf(familyOf(address))}`;
    if (own.some((each) => show(each) === text)) continue;
    findings.push({
      code: 'DEVICE_ADDRESS',
      severity: 'error',
      subject: name,
      message: `it does not have the address ${text}: what this node itself sends to pods has no source that they can answer to`,
      evidence,
      remedy: `ip address add ${text} dev ${word(name)}${familyOf(address) === 6 ? ' nodad' : ''}`,
    });
  }
  const left = own.filter((each) => !isWanted(each) && networks.some((network) => contains(network, each.address)));
  if (left.length > 0) {
    findings.push({
      code: 'DEVICE_ADDRESS_LEFT_OVER',
      severity: 'warning',
      subject: name,
      message: `it has an address of the pod network that is not this node’s: ${left.map(show).join(', ')}`,
      evidence,
      remedy: lines(left.map((each) => `ip address del ${show(each)} dev ${word(name)}`)),
    });
  }
  return findings;
}

/** Another VXLAN device that keeps this one from being made (vxlan_vni_in_use). */
function rivalOf(device: OverlayDevice, links: readonly Link[]): Link | undefined {
  if (device.kind !== 'vxlan') return undefined;
  const family = familyOf(device.local);
  return links.find(({ vxlan }) => {
    return vxlan?.vni === device.vni && vxlan.port === device.port && (vxlan.local === undefined ? 4 : familyOf(vxlan.local)) === family;
  });
}

/** What makes a device as the daemon would. */
function makeCommands(device: OverlayDevice, external: ExternalInterface): string[] {
  const { name, mtu } = device;
  const add = ((): string | undefined => {
    switch (device.kind) {
      case 'vxlan': {
        const mac = device.mac === '' ? '' : ` address ${device.mac}`;
        const gbp = device.gbp ? ' gbp' : '';
        return (
          `ip link add ${name}${mac} mtu ${mtu} type vxlan id ${device.vni} dev ${word(external.name)} ` +
          `local ${formatAddress(device.local)} dstport ${device.port} ${device.learning ? 'learning' : 'nolearning'}${gbp}`
        );
      }
      case 'ipip':
        return `ip link add ${name} mtu ${mtu} type ipip local ${formatAddress(device.local)} nopmtudisc`;
      case 'wireguard':
      case 'tun':
        return undefined;
    }
  })();
  if (add === undefined) return [`# ${name} belongs to the network daemon, and is there while it runs: start it again.`];
  return [
    '# The network daemon does this, and all that follows from it, when it is started again. By hand:',
    add,
    ...device.addresses.map(
      (address) =>
        `ip address add ${formatAddress(address)}/${widthOf(familyOf(address))} dev ${name}${familyOf(address) === 6 ? ' nodad' : ''}`,
    ),
    `ip link set dev ${name} up`,
    '# Then look again: the entries for the peers went with it.',
  ];
}

/** A link as `ip -d link` has it, as far as it matters here. */
function describe({ name, kind, mtu, up, vxlan, ipip }: Link): string {
  const parts = [`link ${name}: kind ${kind || 'none'}`, `mtu ${mtu}`, up ? 'up' : 'down'];
  if (vxlan !== undefined) {
    const { vni, port, local, remote, underlay, learning, gbp } = vxlan;
    parts.push(`VNI ${vni}`, `port ${port}`, `local ${local === undefined ? 'none' : formatAddress(local)}`);
    parts.push(`interface ${underlay ?? 'none'}`, learning ? 'learning' : 'nolearning', ...(gbp ? ['gbp'] : []));
    if (remote !== undefined) parts.push(`remote ${formatAddress(remote)}`);
  }
  if (ipip !== undefined) {
    parts.push(`local ${ipip.local === undefined ? 'none' : formatAddress(ipip.local)}`);
    if (ipip.remote !== undefined) parts.push(`remote ${formatAddress(ipip.remote)}`);
  }
  return parts.join(', ');
}

function show({ address, prefixLength }: InterfaceAddress): string {
  return `${formatAddress(address)}/${prefixLength}`;
}
