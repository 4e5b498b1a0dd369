/** What `sluice network` writes otherwise than flanneld v0.28.4, and means to. Whatever is not here is the same to the byte. */
import type { KnownDifference } from './differences.ts';

const QUEUE: KnownDifference = {
  reason: 'flanneld asks for no room in the queue, with which any queueing discipline on the device would drop everything',
  section: 'links',
  flanneld: '"group":"default","link_type":"ether"',
  sluice: '"group":"default","txqlen":1000,"link_type":"ether"',
  stays: true,
};

export const VXLAN: readonly KnownDifference[] = [QUEUE];

/** @param outer the largest packet between two nodes */
export function vxlanIPv6({ vni = 1, outer = 1500 }: { readonly vni?: number; readonly outer?: number } = {}): readonly KnownDifference[] {
  const why = 'a packet that grows by 70 bytes, and not by 50, has to fit: flanneld tells pods an MTU with which it does not';
  const device = (mtu: number): string => `"ifname":"flannel-v6.${vni}","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":${mtu},`;
  return [
    QUEUE,
    {
      reason: 'nobody else can have the address, and looking for somebody who has takes a second in which it cannot be used',
      section: 'addresses',
      flanneld: '"prefixlen":128,"scope":"global","valid',
      sluice: '"prefixlen":128,"scope":"global","nodad":true,"valid',
      stays: true,
    },
    { reason: why, section: 'subnet.env', flanneld: `FLANNEL_MTU=${outer - 50}`, sluice: `FLANNEL_MTU=${outer - 70}`, stays: false },
    // The kernel itself takes care of the device where the interface below it is the limit.
    ...(outer < 1500 ? [{ reason: why, section: 'links', flanneld: device(outer - 50), sluice: device(outer - 70), stays: true }] : []),
  ];
}

export const UDP: readonly KnownDifference[] = [
  {
    reason: 'the device has no gateways behind it; the kernel takes both for the same',
    section: 'routes IPv4',
    flanneld: '"dev":"flannel0","flags"',
    sluice: '"dev":"flannel0","scope":"link","flags"',
    stays: false,
  },
  {
    reason: 'flanneld wants no router advertisements on the devices of vxlan, and has forgotten this one',
    section: 'accept_ra',
    flanneld: 'flannel0 1',
    sluice: 'flannel0 0',
    stays: false,
  },
];

/** @param own the address that the node has */
export function publicAddress(published: string, own: string): readonly KnownDifference[] {
  return [
    QUEUE,
    {
      reason: 'the kernel sends nothing from an address that the node does not have; peers accept what comes from the one that it has',
      section: 'links',
      flanneld: `"local":"${published}"`,
      sluice: `"local":"${own}"`,
      stays: true,
    },
  ];
}
