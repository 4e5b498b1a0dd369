/**
 * The objects of nf_tables as plain data: what is written to the kernel and what is read back have
 * the same types, so that a round trip can be compared with `assert.deepEqual`.
 *
 * Names follow linux/netfilter/nf_tables.h in the words of `nft(8)`.
 */

/** Address families of tables (NFPROTO_*). */
export type Family = 'ip' | 'ip6' | 'inet' | 'arp' | 'bridge' | 'netdev';

/** `owner` needs Linux 5.12, `persist` 6.9. */
export type TableFlag = 'dormant' | 'owner' | 'persist';

export interface Table {
  readonly family: Family;
  readonly name: string;
  readonly flags: readonly TableFlag[];
  /** Only when read: the kernel's handle. */
  readonly handle?: bigint;
  /** Only when read, and only of a table with the flag `owner`: the netlink port that owns it; absent when orphaned. */
  readonly owner?: number;
  /** At most 128 bytes of UTF-8; shown by `nft list`. */
  readonly comment?: string;
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress' | 'egress';

/** What makes a chain a base chain. */
export interface BaseChain {
  readonly type: 'filter' | 'nat' | 'route';
  readonly hook: Hook;
  readonly priority: number;
  readonly policy: 'accept' | 'drop';
  /** Only of the hooks `ingress` and `egress`. Several need Linux 5.5. */
  readonly devices?: readonly string[];
}

export interface Chain {
  readonly family: Family;
  readonly table: string;
  /** At most 255 bytes. */
  readonly name: string;
  /** Absent: a regular chain. */
  readonly base?: BaseChain;
  readonly comment?: string;
  /** Only when read. */
  readonly handle?: bigint;
}

/** `chain` is present exactly for jump and goto. */
export type Verdict =
  | { readonly verdict: 'accept' | 'drop' | 'continue' | 'return' | 'break' }
  | { readonly verdict: 'jump' | 'goto'; readonly chain: string };

/**
 * A register by its 4-byte number, 0–15 (NFT_REG32_00 + n; NFT_REG_1…4 are 0, 4, 8 and 12). A value of 16 bytes occupies four of
 * them; concatenations put each part into the next free one.
 */
export type Register = number;

export type ComparisonOp = 'eq' | 'neq' | 'lt' | 'lte' | 'gt' | 'gte';

export type MetaKey =
  | 'len'
  | 'protocol'
  | 'priority'
  | 'mark'
  | 'iif'
  | 'oif'
  | 'iifname'
  | 'oifname'
  | 'nfproto'
  | 'l4proto'
  | 'bri_iifname'
  | 'bri_oifname'
  | 'pkttype'
  | 'cgroup'
  | 'cpu'
  | 'iiftype'
  | 'oiftype'
  | 'skuid'
  | 'skgid';

export type CtKey =
  | 'state'
  | 'direction'
  | 'status'
  | 'mark'
  | 'expiration'
  | 'helper'
  | 'l3protocol'
  | 'protocol'
  | 'labels'
  | 'zone'
  | 'id'
  | 'src_ip'
  | 'dst_ip'
  | 'src_ip6'
  | 'dst_ip6'
  | 'proto_src'
  | 'proto_dst';

/** One step of a rule, as the kernel evaluates it. Values are bytes in network order unless the key is host-endian (meta, ct). */
export type Expression =
  | {
      readonly expr: 'payload';
      readonly base: 'link' | 'network' | 'transport' | 'inner';
      readonly offset: number;
      readonly length: number;
      readonly register: Register;
    }
  | { readonly expr: 'meta'; readonly key: MetaKey; readonly register: Register }
  | { readonly expr: 'metaSet'; readonly key: MetaKey; readonly register: Register }
  | { readonly expr: 'ct'; readonly key: CtKey; readonly register: Register; readonly direction?: 'original' | 'reply' }
  | { readonly expr: 'ctSet'; readonly key: CtKey; readonly register: Register; readonly direction?: 'original' | 'reply' }
  | { readonly expr: 'cmp'; readonly op: ComparisonOp; readonly register: Register; readonly value: Uint8Array }
  | { readonly expr: 'range'; readonly op: 'eq' | 'neq'; readonly register: Register; readonly from: Uint8Array; readonly to: Uint8Array }
  /** (source & mask) ^ xor; mask and xor have the same length. */
  | {
      readonly expr: 'bitwise';
      readonly source: Register;
      readonly destination: Register;
      readonly mask: Uint8Array;
      readonly xor: Uint8Array;
    }
  /** Without `destination`: is the value in the set; with: the map's data goes there; `verdict`: a verdict map decides. */
  | {
      readonly expr: 'lookup';
      readonly set: string;
      readonly register: Register;
      readonly destination?: Register | 'verdict';
      readonly invert?: boolean;
    }
  | { readonly expr: 'immediate'; readonly register: Register; readonly value: Uint8Array }
  | ({ readonly expr: 'verdict' } & Verdict)
  | { readonly expr: 'counter'; readonly packets: bigint; readonly bytes: bigint }
  | { readonly expr: 'objref'; readonly type: ObjectType; readonly name: string }
  | {
      readonly expr: 'limit';
      readonly unit: 'packets' | 'bytes';
      readonly rate: bigint;
      readonly per: 'second' | 'minute' | 'hour' | 'day' | 'week';
      readonly burst: number;
      readonly over?: boolean;
    }
  /** With `group`: to NFLOG; otherwise to the kernel's log. */
  | {
      readonly expr: 'log';
      readonly prefix?: string;
      readonly group?: number;
      readonly snaplen?: number;
      readonly queueThreshold?: number;
      readonly level?: number;
      readonly flags?: number;
    }
  | { readonly expr: 'reject'; readonly type: 'icmp' | 'icmpx' | 'tcp-reset'; readonly code?: number }
  | { readonly expr: 'masquerade'; readonly flags?: number }
  | {
      readonly expr: 'nat';
      readonly type: 'snat' | 'dnat';
      readonly family: 'ip' | 'ip6';
      readonly addressMin?: Register;
      readonly addressMax?: Register;
      readonly portMin?: Register;
      readonly portMax?: Register;
      readonly flags?: number;
    }
  /**
   * What this version does not know, kept as the kernel gave it. It can be written back, except for the few expressions whose
   * listing the kernel itself does not take (setting a TCP option).
   */
  | { readonly expr: 'unknown'; readonly name: string; readonly data: Uint8Array };

export interface Rule {
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  readonly expressions: readonly Expression[];
  readonly comment?: string;
  /** Only when read. */
  readonly handle?: bigint;
}

/**
 * Types of set keys, map data and the parts of concatenations, in the words of `nft`. Types that this version does not know are
 * called by their number.
 */
export type DataType =
  | 'ipv4_addr'
  | 'ipv6_addr'
  | 'ether_addr'
  | 'ether_type'
  | 'arp_op'
  | 'inet_proto'
  | 'inet_service'
  | 'icmp_type'
  | 'icmp_code'
  | 'icmpv6_type'
  | 'icmpv6_code'
  | 'tcp_flag'
  | 'dscp'
  | 'mark'
  | 'ifname'
  | 'iface_index'
  | 'iface_type'
  | 'devgroup'
  | 'nf_proto'
  | 'pkt_type'
  | 'ct_state'
  | 'ct_dir'
  | 'ct_status'
  | 'fib_addrtype'
  | 'realm'
  | 'classid'
  | 'uid'
  | 'gid'
  /** Only as map data. */
  | 'verdict'
  /** These two have no length of their own. */
  | 'integer'
  | 'string'
  | `type-${number}`;

/** `anonymous` sets belong to the rule that names them, and go with it. */
export type SetFlag = 'anonymous' | 'constant' | 'interval' | 'timeout' | 'dynamic';

export interface SetDefinition {
  readonly family: Family;
  readonly table: string;
  /** At most 254 bytes. */
  readonly name: string;
  /** One type, or the parts of a concatenation. Each part is padded to 4 bytes in keys. */
  readonly key: readonly DataType[];
  /** Length of a key, where its types do not say it. */
  readonly keyBytes?: number;
  /** Present: a map; `['verdict']` a verdict map. */
  readonly data?: readonly DataType[];
  /** Length of the data, where its types do not say it. */
  readonly dataBytes?: number;
  readonly flags: readonly SetFlag[];
  /** Default timeout of elements, in ms. */
  readonly timeoutMs?: bigint;
  /** Only a note for `nft`, in sets with the flag `interval`: that it unites ranges that overlap or touch when it adds them. */
  readonly autoMerge?: boolean;
  /** Greatest number of elements. */
  readonly size?: number;
  readonly comment?: string;
  /** Only when read. */
  readonly handle?: bigint;
}

/**
 * An element. In interval sets of one field, `key` opens a range and an element with `intervalEnd: true` closes it (exclusive);
 * in concatenations with ranges `keyEnd` is the last key of the range (inclusive). An empty key is the catch-all element `*`
 * (Linux 5.13).
 */
export interface Element {
  readonly key: Uint8Array;
  readonly keyEnd?: Uint8Array;
  readonly intervalEnd?: boolean;
  readonly data?: Uint8Array | Verdict;
  readonly timeoutMs?: bigint;
  /** Only when read. */
  readonly expirationMs?: bigint;
  readonly comment?: string;
}

export type ObjectType = 'counter' | 'quota' | 'limit';

/** A named counter. */
export interface NamedCounter {
  readonly family: Family;
  readonly table: string;
  readonly name: string;
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly comment?: string;
  /** Only when read. */
  readonly handle?: bigint;
}

type TableReference = { readonly family: Family; readonly table: string };

/**
 * One step of a transaction. `add` succeeds where the object is there already with the same definition (like `nft add`),
 * `create` fails then with EEXIST, `delete` fails with ENOENT where there is none, `destroy` does not (Linux 6.3).
 */
export type Operation =
  | { readonly op: 'add' | 'create'; readonly table: Table }
  | { readonly op: 'delete' | 'destroy'; readonly table: Pick<Table, 'family' | 'name'> }
  | { readonly op: 'add' | 'create'; readonly chain: Chain }
  | { readonly op: 'delete' | 'destroy'; readonly chain: Pick<Chain, 'family' | 'table' | 'name'> }
  /** Removes all rules of the chain, or of all chains of the table. */
  | { readonly op: 'flush'; readonly rules: TableReference & { readonly chain?: string } }
  /** `append` at the end (or behind rule `position`), `insert` at the beginning (or before rule `position`), `replace` rule `position`. */
  | { readonly op: 'append' | 'insert'; readonly rule: Rule; readonly position?: bigint }
  | { readonly op: 'replace'; readonly rule: Rule; readonly position: bigint }
  | { readonly op: 'delete'; readonly rule: TableReference & { readonly chain: string; readonly handle: bigint } }
  | { readonly op: 'add' | 'create'; readonly set: SetDefinition }
  | { readonly op: 'delete' | 'destroy'; readonly set: TableReference & { readonly name: string } }
  /** Split over as many messages as are needed (an attribute's length is 16 bits). `set` names a set or map. `create` fails where an element is there already. */
  | {
      readonly op: 'add' | 'create' | 'delete' | 'destroy';
      readonly elements: TableReference & { readonly set: string; readonly elements: Iterable<Element> };
    }
  | { readonly op: 'flush'; readonly elements: TableReference & { readonly set: string } }
  | { readonly op: 'add' | 'create'; readonly counter: NamedCounter }
  | { readonly op: 'delete' | 'destroy'; readonly counter: TableReference & { readonly name: string } };
