/** Chains (enum nft_chain_attributes, nft_hook_attributes). */
import { type Attributes, eachAttribute, type MessageWriter, readAttributes, required } from '../netlink/attributes.ts';
import { MalformedError, NetlinkError } from '../netlink/errors.ts';
import type { BaseChain, Chain, Family, Hook } from '../types.ts';
import { attributesOf, familyOf } from './message.ts';
import { readComment, writeComment } from './userdata.ts';

const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_HANDLE = 2;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_CHAIN_TYPE = 7;
const NFTA_CHAIN_USERDATA = 12;
const NFTA_HOOK_HOOKNUM = 1;
const NFTA_HOOK_PRIORITY = 2;
const NFTA_HOOK_DEV = 3;
const NFTA_HOOK_DEVS = 4;
const NFTA_DEVICE_NAME = 1;
const NF_DROP = 0;
const NF_ACCEPT = 1;

/** NF_INET_*, NF_BR_*: the same numbers. */
const INET_HOOKS: readonly Hook[] = ['prerouting', 'input', 'forward', 'output', 'postrouting', 'ingress'];
/** NF_ARP_* */
const ARP_HOOKS: readonly Hook[] = ['input', 'output', 'forward'];
/** NF_NETDEV_* */
const NETDEV_HOOKS: readonly Hook[] = ['ingress', 'egress'];
const CHAIN_TYPES: readonly string[] = ['filter', 'nat', 'route'] satisfies BaseChain['type'][];

function hooksOf(family: Family): readonly Hook[] {
  return family === 'arp' ? ARP_HOOKS : family === 'netdev' ? NETDEV_HOOKS : INET_HOOKS;
}

/** What follows struct nfgenmsg in NFT_MSG_NEWCHAIN. */
export function writeChain(writer: MessageWriter, chain: Chain): void {
  const { base } = chain;
  writeChainName(writer, chain.table, chain.name);
  if (base !== undefined) {
    writer.string(NFTA_CHAIN_TYPE, base.type);
    writer.be32(NFTA_CHAIN_POLICY, base.policy === 'accept' ? NF_ACCEPT : NF_DROP);
    writeHook(writer, chain.family, base);
  }
  writeComment(writer, NFTA_CHAIN_USERDATA, chain.comment);
}

export function writeChainName(writer: MessageWriter, table: string, name: string): void {
  writer.string(NFTA_CHAIN_TABLE, table);
  writer.string(NFTA_CHAIN_NAME, name);
}

function writeHook(writer: MessageWriter, family: Family, { hook, priority, devices = [] }: BaseChain): void {
  const number = hooksOf(family).indexOf(hook);
  if (number < 0) throw new NetlinkError('ERR_INVALID', `tables of the family ${family} have no hook ${hook}`);
  const nest = writer.beginNested(NFTA_CHAIN_HOOK);
  writer.be32(NFTA_HOOK_HOOKNUM, number);
  writer.be32(NFTA_HOOK_PRIORITY, priority);
  const [device] = devices;
  if (devices.length === 1 && device !== undefined) writer.string(NFTA_HOOK_DEV, device);
  else if (devices.length > 1) {
    const list = writer.beginNested(NFTA_HOOK_DEVS);
    for (const device of devices) writer.string(NFTA_DEVICE_NAME, device);
    writer.endNested(list);
  }
  writer.endNested(nest);
}

/** @throws MalformedError */
export function readChain(payload: Uint8Array): Chain {
  const attributes = readAttributes(attributesOf(payload));
  const family = familyOf(payload);
  const hook = attributes.get(NFTA_CHAIN_HOOK)?.nested();
  const handle = attributes.get(NFTA_CHAIN_HANDLE)?.be64();
  return {
    family,
    table: required(attributes, NFTA_CHAIN_TABLE, "a chain's table").string(),
    name: required(attributes, NFTA_CHAIN_NAME, "a chain's name").string(),
    ...(hook !== undefined && { base: readBase(attributes, hook, family) }),
    ...(handle !== undefined && { handle }),
    ...readComment(attributes.get(NFTA_CHAIN_USERDATA)?.data),
  };
}

function readBase(attributes: Attributes, nested: Attributes, family: Family): BaseChain {
  const number = required(nested, NFTA_HOOK_HOOKNUM, "a chain's hook").be32();
  const hook = hooksOf(family)[number];
  if (hook === undefined) throw new MalformedError(`a chain at the unknown hook ${number} of the family ${family}`);
  const type = required(attributes, NFTA_CHAIN_TYPE, "a chain's type").string();
  if (!CHAIN_TYPES.includes(type)) throw new MalformedError(`a chain of the unknown type ${type}`);
  const devices = readDevices(nested);
  return {
    type: type as BaseChain['type'],
    hook,
    priority: required(nested, NFTA_HOOK_PRIORITY, "a chain's priority").be32() | 0,
    policy: attributes.get(NFTA_CHAIN_POLICY)?.be32() === NF_DROP ? 'drop' : 'accept',
    ...(devices.length > 0 && { devices }),
  };
}

/** The kernel lists all in HOOK_DEVS, and a single one in HOOK_DEV as well. */
function readDevices(hook: Attributes): string[] {
  const list = hook.get(NFTA_HOOK_DEVS);
  if (list !== undefined) return Array.from(eachAttribute(list.data), (attribute) => attribute.string());
  const device = hook.get(NFTA_HOOK_DEV);
  return device === undefined ? [] : [device.string()];
}
