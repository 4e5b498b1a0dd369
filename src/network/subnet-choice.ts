/**
 * How a network is cut into subnets where no cluster does it: SubnetLen, SubnetMin and SubnetMax of net-conf.json, with flanneld's
 * defaults, bounds and alignment (CheckNetworkConfig).
 */
import { SluiceError } from '../errors.ts';
import {
  type Address,
  type Family,
  formatAddress,
  formatPrefix,
  ipv4,
  ipv6,
  networkAddress,
  type Prefix,
  prefixRange,
  type Range,
} from '../policy/address.ts';
import { subtract } from '../policy/ranges.ts';
import { liesWithin } from './lease.ts';
import { familiesOf, type NetConf } from './net-conf.ts';

/** The subnets that nodes may have in one family: all of one length, from the first to the last. */
export interface SubnetPlan {
  readonly length: number;
  /** Addresses of the first and of the last subnet. */
  readonly first: Address;
  readonly last: Address;
}

/** Of each family: a subnet has room for a tunnel and a bridge; what nodes get where there is room; and as a word of it. */
const LIMITS = {
  4: { longest: 30, usual: 24, prefix: '' },
  6: { longest: 126, usual: 64, prefix: 'IPv6' },
} as const;

/**
 * The subnets of the network in a family that it has.
 * @throws SluiceError `NET_CONF_INVALID`: the field and what it may be
 */
export function subnetPlan(conf: NetConf, family: Family): SubnetPlan {
  const { longest, usual, prefix } = LIMITS[family];
  const invalid = (field: string, fault: string): SluiceError =>
    new SluiceError('NET_CONF_INVALID', `cutting the network into subnets: ${prefix}${field}: ${fault}`, { exitStatus: 2 });
  const network = familiesOf(conf).find((each) => each.family === family)?.network;
  if (network === undefined) throw invalid('Network', 'is missing');
  const given = family === 4 ? conf.subnetLen : conf.ipv6SubnetLen;
  // The first subnet is not used, so at least four have to be there for three nodes.
  if (given === undefined && network.length > longest - 2) {
    throw invalid(
      'Network',
      `expected a block of at most ${longest - 2} bits, not ${formatPrefix(network)}: it is too small for four subnets`,
    );
  }
  if (given !== undefined && (given > longest || given < network.length + 2)) {
    const room = network.length + 2 > longest ? ', and there is none: the network is too small for four subnets' : '';
    throw invalid(
      'SubnetLen',
      `expected a number from ${network.length + 2} to ${longest} for the network ${formatPrefix(network)}${room}, not ${given}`,
    );
  }
  const length = given ?? (network.length <= usual - 2 ? usual : network.length + 2);
  const size = 1n << BigInt((family === 4 ? 32 : 128) - length);

  const bound = (field: string, address: Address | undefined, standard: bigint): Address => {
    const value = address ?? toAddress(standard, family);
    if (!liesWithin({ address: value, length: network.length }, network)) {
      throw invalid(field, `expected an address of the network ${formatPrefix(network)}, not ${formatAddress(value)}`);
    }
    if (networkAddress(value, length) !== value) {
      throw invalid(field, `expected the first address of a subnet of ${length} bits, not ${formatAddress(value)}`);
    }
    return value;
  };
  // An interface with the very address of the network makes trouble, so the first subnet is passed over.
  const first = bound('SubnetMin', family === 4 ? conf.subnetMin : conf.ipv6SubnetMin, BigInt(network.address) + size);
  const last = bound('SubnetMax', family === 4 ? conf.subnetMax : conf.ipv6SubnetMax, BigInt(prefixRange(network).last) + 1n - size);
  if (first > last) throw invalid('SubnetMin', `expected at most SubnetMax, ${formatAddress(last)}, not ${formatAddress(first)}`);
  return { length, first, last };
}

/** Whether a subnet is one that the plan has. */
export function isPlanned({ address, length }: Prefix, plan: SubnetPlan): boolean {
  return typeof address === typeof plan.first && length === plan.length && address >= plan.first && address <= plan.last;
}

/**
 * All subnets that a node may have, ascending; one by one, for IPv6 has more than could be counted.
 * @throws SluiceError `NET_CONF_INVALID`: as {@link subnetPlan}
 */
export function* subnetCandidates(conf: NetConf, family: Family): Generator<Prefix> {
  yield* freeSubnets(subnetPlan(conf, family), []);
}

/** Those of the plan's subnets that have no address of the ranges, ascending. */
export function* freeSubnets({ first, last, length }: SubnetPlan, occupied: readonly Range[]): Generator<Prefix> {
  const family = typeof first === 'number' ? 4 : 6;
  const size = 1n << BigInt((family === 4 ? 32 : 128) - length);
  const whole: Range = { first, last: prefixRange({ address: last, length }).last };
  for (const free of subtract(whole, occupied)) {
    // The first that begins there or later.
    let start = ((BigInt(free.first) + size - 1n) / size) * size;
    for (; start + size - 1n <= BigInt(free.last); start += size) yield { address: toAddress(start, family), length };
  }
}

function toAddress(value: bigint, family: Family): Address {
  return family === 4 ? ipv4(Number(value)) : ipv6(value);
}
