/**
 * Service addresses in the lab, as kube-proxy's nftables mode makes them: DNAT in prerouting and output, and masquerade in
 * postrouting for a pod that reaches itself through its own Service (hairpin). One small table per node and family,
 * `ip lab-nat` and `ip6 lab-nat`, written anew with each change; flows under way keep their translation.
 */
import { type Address, type Family, familyOf, formatAddress } from '../policy/address.ts';
import type { PolicyProtocol } from '../policy/objects.ts';

export interface Backend {
  readonly address: Address;
  readonly port: number;
}

export interface LabService {
  readonly address: Address;
  readonly port: number;
  readonly protocol: PolicyProtocol;
  /** Of the service's family. None: the address leads nowhere. */
  readonly backends: readonly Backend[];
}

/** Script for `nft -f`: the node's tables with these services and nothing else. */
export function serviceScript(services: readonly LabService[]): string {
  return ([4, 6] as const)
    .map((family) =>
      familyTable(
        family,
        services.filter((service) => familyOf(service.address) === family && service.backends.length > 0),
      ),
    )
    .join('');
}

function familyTable(family: Family, services: readonly LabService[]): string {
  const ip = family === 4 ? 'ip' : 'ip6';
  const translate = services.map((service) => {
    const { address, port, protocol, backends } = service;
    const match = `${ip} daddr ${formatAddress(address)} ${protocol.toLowerCase()} dport ${port}`;
    const [only] = backends;
    if (only !== undefined && backends.length === 1) return `    ${match} dnat to ${target(only)}`;
    const choices = backends.map((backend, index) => `${index} : ${formatAddress(backend.address)} . ${backend.port}`);
    return `    ${match} dnat ${ip} addr . port to numgen random mod ${backends.length} map { ${choices.join(', ')} }`;
  });
  const addresses = new Set(services.flatMap((service) => service.backends.map((backend) => formatAddress(backend.address))));
  const hairpin = [...addresses].map((text) => `    ${ip} saddr ${text} ${ip} daddr ${text} ct status dnat masquerade`);
  return `add table ${ip} lab-nat
delete table ${ip} lab-nat
table ${ip} lab-nat {
  chain services {
${translate.join('\n')}
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }
  chain output {
    type nat hook output priority -100; policy accept;
    jump services
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
${hairpin.join('\n')}
  }
}
`;
}

function target({ address, port }: Backend): string {
  return familyOf(address) === 4 ? `${formatAddress(address)}:${port}` : `[${formatAddress(address)}]:${port}`;
}
