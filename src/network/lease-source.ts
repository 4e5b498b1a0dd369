/** Where leases come from and where this node's is told: the API server's Nodes, or a directory that all nodes share. */
import type { Address, Family, Prefix } from '../policy/address.ts';
import type { LeaseListener } from './lease.ts';
import type { BackendConf } from './net-conf.ts';

/** What this node has been given, and what is known of it from before. */
export interface OwnLease {
  readonly v4: Prefix | undefined;
  readonly v6: Prefix | undefined;
  /** Hardware addresses of its VTEPs, as it has told them before: peers have these, so they are kept. */
  readonly vtep: Readonly<Record<Family, string | undefined>>;
  /** What an administrator says is its address for peers; it counts before what the program was started with. */
  readonly publicAddress: Readonly<Record<Family, Address | undefined>>;
}

export interface LeaseSourceListener extends LeaseListener {
  /** What this node has; `waiting`: nothing yet, and why. Told again whenever it changes. */
  own(lease: OwnLease | { readonly waiting: string }): void;
  /** Something went wrong with reading or telling; it is tried again. */
  failed(doing: string, error: unknown, retryMs: number): void;
}

/** What this node tells its peers. */
export interface Announcement {
  readonly backend: BackendConf['type'];
  readonly v4: FamilyAnnouncement | undefined;
  readonly v6: FamilyAnnouncement | undefined;
}

export interface FamilyAnnouncement {
  readonly subnet: Prefix;
  readonly publicAddress: Address;
  /** Byte for byte. */
  readonly data: string;
}

export interface LeaseSource {
  /** Begins to tell of leases. Called once. */
  start(listener: LeaseSourceListener): void;
  /** Tells peers, however long that takes, and again when somebody has changed it; resolves when it has been told. */
  announce(announcement: Announcement): Promise<void>;
  /** Tells that pods may come: the node's network works. */
  available(): Promise<void>;
  /** Nothing is told any more once it resolves; what has been announced stays. */
  stop(): Promise<void>;
}
