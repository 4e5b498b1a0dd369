/** alloc: subnets are given out, and somebody else routes them (a cloud's route table). Nothing is made in the kernel. */
import type { Entry } from '../entries.ts';
import type { Backend, NodeContext, PeerEntries } from './backend.ts';

export class AllocBackend implements Backend {
  /** flanneld leaves it empty. */
  readonly type = '';
  readonly devices = [];
  readonly mtu: number;
  readonly ownEntries: readonly Entry[] = [];
  readonly followsRoutes = false;

  constructor(node: NodeContext) {
    this.mtu = node.external.mtu;
  }

  data(): string {
    return 'null';
  }

  entriesFor(): PeerEntries {
    return { entries: [], problems: [] };
  }
}
