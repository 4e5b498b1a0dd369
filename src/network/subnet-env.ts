/**
 * `/run/flannel/subnet.env`: what the CNI plugin `flannel` has to know of the node. Written byte for byte as flanneld does
 * (WriteSubnetFile); read as leniently as a file is that other programs write too.
 */
import { addressAfter } from '../policy/ranges.ts';
import { type Family, familyOf, formatAddress, formatPrefix, type Prefix, readPrefix } from '../policy/address.ts';

export interface SubnetEnv {
  readonly v4: SubnetEnvFamily | undefined;
  readonly v6: SubnetEnvFamily | undefined;
  /** Of pods, in bytes. */
  readonly mtu: number;
  /** Whether the daemon masquerades, so that the plugin need not. */
  readonly ipMasq: boolean;
}

export interface SubnetEnvFamily {
  /** The whole cluster's. */
  readonly network: Prefix;
  /** This node's. */
  readonly subnet: Prefix;
}

/** What a file says; what it does not say, or not readably, is undefined. */
export interface SubnetEnvReading {
  readonly v4: Partial<SubnetEnvFamily>;
  readonly v6: Partial<SubnetEnvFamily>;
  readonly mtu: number | undefined;
  readonly ipMasq: boolean | undefined;
}

const KEYS = {
  4: { network: 'FLANNEL_NETWORK', subnet: 'FLANNEL_SUBNET' },
  6: { network: 'FLANNEL_IPV6_NETWORK', subnet: 'FLANNEL_IPV6_SUBNET' },
} as const;

/** The file's text. A subnet is written as its first usable address, which the pods' bridge gets. */
export function formatSubnetEnv({ v4, v6, mtu, ipMasq }: SubnetEnv): string {
  const lines: string[] = [];
  for (const [family, of] of [[4, v4] as const, [6, v6] as const]) {
    if (of === undefined) continue;
    lines.push(`${KEYS[family].network}=${formatPrefix(of.network)}`);
    lines.push(`${KEYS[family].subnet}=${formatAddress(addressAfter(of.subnet.address))}/${of.subnet.length}`);
  }
  return [...lines, `FLANNEL_MTU=${mtu}`, `FLANNEL_IPMASQ=${ipMasq}`, ''].join('\n');
}

/** Reads a file of this kind, also one that a shell would read: comments, quotes, `export`. Of several lines for one key the last. */
export function parseSubnetEnv(text: string): SubnetEnvReading {
  const values = new Map<string, string>();
  for (const [, key = '', value = ''] of text.matchAll(/^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(.*?)[ \t\r]*$/gm)) {
    const found = /^(?:"([^"]*)"|'([^']*)')|^(.*?)(?:\s+#.*)?$/.exec(value);
    values.set(key, found?.[1] ?? found?.[2] ?? found?.[3] ?? '');
  }
  const family = (of: Family): Partial<SubnetEnvFamily> => {
    const [network, subnet] = [readBlock(values.get(KEYS[of].network), of), readBlock(values.get(KEYS[of].subnet), of)];
    return { ...(network === undefined ? {} : { network }), ...(subnet === undefined ? {} : { subnet }) };
  };
  const mtu = values.get('FLANNEL_MTU') ?? '';
  const ipMasq = values.get('FLANNEL_IPMASQ');
  return {
    v4: family(4),
    v6: family(6),
    mtu: /^\d{1,5}$/.test(mtu) ? Number(mtu) : undefined,
    ipMasq: ipMasq === 'true' || ipMasq === 'false' ? ipMasq === 'true' : undefined,
  };
}

/** One block of the family; the bits after its prefix, of which a subnet has one set, are masked. */
function readBlock(text: string | undefined, family: Family): Prefix | undefined {
  const reading = text === undefined ? undefined : readPrefix(text);
  return reading !== undefined && !reading.leadingZeros && familyOf(reading.prefix.address) === family ? reading.prefix : undefined;
}
