/**
 * What holds between flanneld and `sluice network` for every backend. Each test brings the daemons that it needs onto the nodes, and goes
 * on with what the one before has left: a node keeps its object, its pod and its devices, as in a cluster.
 */
import assert from 'node:assert/strict';
import type { ApiServer } from '../../../../src/lab/api/api-server.ts';
import { BASELINE, type DaemonKind } from './daemons.ts';
import { asBySluice, byEither, type KnownDifference } from './differences.ts';
import type { EchoCounts } from './echoes.ts';
import { type Carries, InteropNetwork, type NetConf } from './interop-network.ts';
import type { Snapshot } from './snapshot.ts';
import type { Layout } from './underlay.ts';

export interface BackendCase {
  readonly title: string;
  readonly netConf: NetConf;
  readonly layout?: Layout;
  readonly carries: Carries;
  /** How sluice's traces on a node differ from flanneld's, and are meant to. */
  readonly differences?: readonly KnownDifference[];
  /** False: a device ends with its daemon, and what is sent meanwhile is lost. Default: true. */
  readonly survivesRestart?: boolean;
}

const CLUSTER = ['a', 'b', 'c'] as const;
/** Of what is sent while one daemon takes over from the other. */
const LOST_MAX = 1;

export function interopSuite(backend: BackendCase, api: () => ApiServer): void {
  const { title, netConf, layout = 'one segment', carries, survivesRestart = true } = backend;
  const known = BASELINE ? [] : (backend.differences ?? []);

  describe(title, () => {
    let network: InteropNetwork;
    /** What each node looked like under flanneld alone. */
    const byFlanneld = new Map<string, Snapshot>();

    before(async () => {
      network = await InteropNetwork.create({ api: api(), netConf, layout, carries, nodes: [...CLUSTER, 'd', 'e'] });
    });

    after(() => network?.close());

    function underFlanneld(name: string): Snapshot {
      return byFlanneld.get(name) ?? assert.fail(`nothing is known of ${name} under flanneld: an earlier test has failed`);
    }

    /** On a node where nothing was before its daemon came. */
    async function looksLikeNew(name: string): Promise<void> {
      const { expected, stale } = asBySluice(underFlanneld(name), known);
      assert.deepEqual(stale, []);
      await network.looks(name, expected);
    }

    /** On a node where both have been. */
    async function looksTheSame(name: string): Promise<void> {
      const snapshot = underFlanneld(name);
      const { expected } = network.daemon(name).kind === 'sluice' ? asBySluice(snapshot, known) : { expected: snapshot };
      await network.looks(name, byEither(expected, known), (now) => byEither(now, known));
    }

    it('flanneld alone connects all pods, and those with the world outside', async () => {
      await network.run({ a: 'flanneld', b: 'flanneld', c: 'flanneld' });
      for (const name of CLUSTER) byFlanneld.set(name, await network.snapshot(name));
      await network.expectConnected();
    });

    it('sluice writes what flanneld writes for the same node, entry by entry, and connects the same', async () => {
      await Promise.all(CLUSTER.map((name) => network.stop(name)));
      await Promise.all(CLUSTER.map((name) => network.wipe(name)));
      await network.run({ a: 'sluice', b: 'sluice', c: 'sluice' });
      for (const name of CLUSTER) await looksLikeNew(name);
      await network.expectConnected();
    });

    /** Sends between b and the others all the while, and counts what is lost. */
    async function losesNothing(action: () => Promise<void>): Promise<void> {
      const streams = network.families.flatMap((family) => [network.echoes('a', 'b', family), network.echoes('b', 'c', family)]);
      const counts: EchoCounts[] = [];
      try {
        await action();
      } finally {
        counts.push(...(await Promise.all(streams.map((stream) => stream.stop()))));
      }
      for (const { sent, lost } of counts) {
        assert.ok(sent > 0);
        if (survivesRestart) assert.ok(lost <= LOST_MAX, `${lost} of ${sent} echoes were lost`);
      }
    }

    /** Ends the daemons of some nodes and starts others: all is as it was, and on the same devices. */
    async function takesOver(kind: DaemonKind, names: readonly string[], signal: NodeJS.Signals): Promise<void> {
      const devices = await Promise.all(names.map((name) => network.overlayDevices(name)));
      await Promise.all(names.map((name) => network.stop(name, signal)));
      await network.start(kind, names);
      for (const name of names) await looksTheSame(name);
      if (!survivesRestart) return;
      assert.deepEqual(await Promise.all(names.map((name) => network.overlayDevices(name))), devices, `by ${kind}`);
    }

    it('flanneld takes over nodes from sluice, and nodes of both kinds reach each other, in both directions', async () => {
      await network.run({ a: 'sluice', b: 'sluice', c: 'sluice' });
      await losesNothing(() => takesOver('flanneld', ['a', 'c'], 'SIGTERM'));
      await network.expectConnected();
    });

    it('sluice takes over a node from flanneld, which had it from a sluice that was killed', async () => {
      await network.run({ a: 'flanneld', b: 'sluice', c: 'flanneld' });
      await losesNothing(async () => {
        await takesOver('flanneld', ['b'], 'SIGKILL');
        await takesOver('sluice', ['b'], 'SIGTERM');
      });
      await network.expectEchoes('b');
    });

    it('nodes that join are known to both kinds, and nothing is left of them when they leave', async () => {
      await network.run({ a: 'flanneld', b: 'sluice', c: 'flanneld', d: 'flanneld', e: 'sluice' });
      for (const name of ['d', 'e']) await network.expectEchoes(name);
      for (const name of ['d', 'e']) await network.deleteObject(name);
      // They look as before the others came.
      for (const name of CLUSTER) await looksTheSame(name);
    });
  });
}
