/**
 * What was looked at, as data: checks are functions of this alone. Everything that may fail to be read is a {@link Reading}, which has
 * the reason in its place.
 */
import type { Chain, Element, Rule, SetDefinition, Table } from 'nftables-js';
import type { InterfaceOptions } from '../network/external-interface.ts';
import type { Lease } from '../network/lease.ts';
import type { Subnets } from '../network/lease-file.ts';
import type { NetConf } from '../network/net-conf.ts';
import type { Address, Family, Prefix } from '../policy/address.ts';
import type { InterfaceAddress } from '../rtnetlink/addresses.ts';
import type { Link } from '../rtnetlink/links.ts';
import type { ForwardingEntry, Neighbour } from '../rtnetlink/neighbours.ts';
import type { Route } from '../rtnetlink/routes.ts';
import type { PathProbe } from './path-probe.ts';

/** `blind`: why it could not be looked at. */
export type Reading<T> = { readonly seen: T } | { readonly blind: string };

/** What the network daemon of this node was started with, as far as it was said here. */
export interface NodeSettings {
  /** Name of this node. */
  readonly node: string;
  readonly netConfigPath: string;
  readonly annotationPrefix: string;
  /** How kubectl reaches the same API server: the program, and flags. */
  readonly kubectl: string;
  readonly interfaces: InterfaceOptions;
  /** Undefined: none is written. */
  readonly subnetFile: string | undefined;
  readonly bridge: string | undefined;
  readonly cniConfFile: string | undefined;
  /** Where the runtime looks for plugins. */
  readonly cniBinDirs: readonly string[];
}

/** The tables of rtnetlink, of this network namespace. */
export interface KernelTables {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  /** Of the table main. */
  readonly routes: readonly Route[];
  readonly neighbours: readonly Neighbour[];
  readonly forwarding: readonly ForwardingEntry[];
  /** How packets to an address leave this node, as `ip route get` says; undefined: they do not. */
  readonly routesTo: ReadonlyMap<Address, Route | undefined>;
}

/** A value that somebody has told, and the place where it stands, for messages: `annotation …/public-ip of node a`. */
export interface Told {
  readonly where: string;
  /** Undefined: nothing stands there. */
  readonly text: string | undefined;
}

/** What is told of this node. */
export interface OwnRecord {
  /** Whether there is such a node. */
  readonly exists: boolean;
  readonly subnets: Subnets;
  /** What cannot be read of it, each with its field. */
  readonly problems: readonly string[];
  /** Whether a network daemon has told anything of itself. */
  readonly isPublished: boolean;
  readonly backendType: Told;
  readonly publicAddress: Readonly<Record<Family, Told>>;
  /** JSON. */
  readonly data: Readonly<Record<Family, Told>>;
  /** What an administrator wants to be told in place of the node's address. */
  readonly overwrite: Readonly<Record<Family, Told>>;
  /** What an administrator says is the node's address: as `--public-ip`. */
  readonly given: Readonly<Record<Family, Told>>;
}

export interface LeaseRecords {
  readonly kind: 'kubernetes' | 'directory';
  /** Where they were read: a URL, or a directory. */
  readonly origin: string;
  readonly own: OwnRecord;
  /** Of the other nodes that have one. */
  readonly peers: readonly Lease[];
  /** The subnets of all other nodes, also of those that no daemon has told of. */
  readonly taken: readonly Prefix[];
  /** Why another node has none that could be read, by its name. */
  readonly unreadable: ReadonlyMap<string, string>;
}

/** A file's text; undefined: it is not there. */
export type FileText = string | undefined;

export interface CniFiles {
  readonly directory: string;
  /** Those that a runtime reads, in its order, with what they hold. */
  readonly files: readonly { readonly name: string; readonly text: string }[];
  /** Names of what is in the directories of plugins, by directory; those that are not there are left out. */
  readonly plugins: ReadonlyMap<string, readonly string[]>;
}

/** What nf_tables has. */
export interface Rules {
  readonly tables: readonly Table[];
  readonly chains: readonly Chain[];
  readonly rules: readonly Rule[];
  readonly sets: readonly (SetDefinition & { readonly elements: readonly Element[] })[];
}

/** The kernel's older packet filter, of one family. */
export interface LegacyRules {
  /** Names of its tables, as /proc/net/ip_tables_names has them. */
  readonly tables: readonly string[];
  /** What iptables-legacy-save prints; of no tables the empty text. */
  readonly saved: Reading<string>;
}

export interface Modules {
  /** Loaded, or built in and known to have parameters: /sys/module. */
  readonly present: ReadonlySet<string>;
  /** Those that this kernel could have: modules.dep and modules.builtin of its release. */
  readonly available: Reading<ReadonlySet<string>>;
}

/** A .link file of systemd that is in force, in the order in which they are asked. */
export interface LinkFile {
  readonly path: string;
  readonly text: string;
}

export interface Evidence {
  readonly settings: NodeSettings;
  readonly conf: NetConf;
  /** `6.1.0-13-amd64` */
  readonly kernelRelease: string;
  readonly tables: Reading<KernelTables>;
  /** Values below /proc/sys by key, with slashes (`net/ipv4/ip_forward`); what is not there is left out. */
  readonly sysctls: Reading<ReadonlyMap<string, string>>;
  readonly leases: Reading<LeaseRecords>;
  readonly subnetFile: Reading<FileText>;
  readonly cni: Reading<CniFiles>;
  readonly rules: Reading<Rules>;
  readonly legacy: Readonly<Record<Family, Reading<LegacyRules>>>;
  readonly modules: Reading<Modules>;
  readonly linkFiles: Reading<readonly LinkFile[]>;
  /** Whether the checksums of what is sent are left to the device, by its name. */
  readonly checksumOffload: ReadonlyMap<string, Reading<boolean>>;
  /** Of the way to each peer's public address. */
  readonly paths: Reading<ReadonlyMap<Address, PathProbe>>;
}
