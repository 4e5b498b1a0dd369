/** What becomes of real packets, in each mode and family, and the change from one mode to the other. */
import assert from 'node:assert/strict';
import { NftConnection, Poller } from 'nftables-js';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import {
  Masquerade,
  type MasqueradeMode,
  type MasqueradeOptions,
  removeMasquerade,
  type Spawn,
} from '../../../src/network/masquerade/masquerade.ts';
import { type Address, type Family, familyOf, formatAddress } from '../../../src/policy/address.ts';
import { eventually } from '../support/eventually.ts';
import {
  ADDRESSES,
  CLUSTER,
  FAMILIES,
  feedAt,
  makeTopology,
  netns,
  type Place,
  removeTopology,
  runAt,
  type Sending,
  Socket,
  seenAs,
  spawnOnNode,
} from './masquerade-topology.ts';

/** The same programs in their older form. */
const spawnLegacy: Spawn = ([program = '', ...args], options) =>
  spawnOnNode([program.replace(/^(ip6?tables)/, '$1-legacy'), ...args], options);

interface Variant {
  readonly name: string;
  readonly mode: MasqueradeMode;
  readonly spawn: Spawn;
  readonly program: Readonly<Record<Family, string>>;
}

const NFTABLES: Variant = { name: 'nftables', mode: 'nftables', spawn: spawnOnNode, program: { 4: 'iptables', 6: 'ip6tables' } };
const IPTABLES: Variant = { ...NFTABLES, name: 'iptables', mode: 'iptables' };
const LEGACY: Variant = {
  ...IPTABLES,
  name: 'iptables, older form',
  spawn: spawnLegacy,
  program: { 4: 'iptables-legacy', 6: 'ip6tables-legacy' },
};
const VARIANTS: readonly Variant[] = [NFTABLES, IPTABLES, LEGACY];

/** Packets to this port are marked on the node as kube-proxy marks them. */
const MARKED_PORT = 9001;
const MARKS = `table inet marks {
  chain prerouting { type filter hook prerouting priority mangle; udp dport ${MARKED_PORT} meta mark set 0x4000; }
}`;

let legacy: boolean | undefined;

/** Whether there are both the programs and what they need of the kernel. */
function legacyWorks(): boolean {
  if (legacy !== undefined) return legacy;
  try {
    for (const program of Object.values(LEGACY.program)) runAt('elsewhere', program, '-t', 'nat', '-S');
    legacy = true;
  } catch {
    legacy = false;
  }
  return legacy;
}

function wipe(): void {
  runAt('node', 'nft', 'flush', 'ruleset');
  if (!legacyWorks()) return;
  for (const program of Object.values(LEGACY.program)) {
    feedAt('node', '*nat\n-F\n-X\nCOMMIT\n*filter\n:FORWARD ACCEPT\n-F\n-X\nCOMMIT\n', `${program}-restore`, '--noflush');
  }
}

/** Packets that the policy of FORWARD dropped. */
function droppedByPolicy(program: string): number {
  return Number(/^:FORWARD DROP \[(\d+):/m.exec(runAt('node', `${program}-save`, '-c', '-t', 'filter'))?.[1] ?? assert.fail('no policy'));
}

/** That packets from there to the host outside end at the policy of FORWARD. */
async function assertDropped(program: string, from: Place, source: Address): Promise<void> {
  const { outside } = ADDRESSES[familyOf(source)];
  const receiver = new Socket('outside', outside, 9002);
  const sender = new Socket(from, source);
  const before = droppedByPolicy(program);
  try {
    await eventually(() => {
      sender.send(outside, 9002, 'unwelcome');
      return droppedByPolicy(program) > before;
    }, 'a packet that is dropped');
    assert.equal(receiver.senderOf('unwelcome'), undefined);
  } finally {
    sender.close();
    receiver.close();
  }
}

const REMOVED: Readonly<Record<string, readonly string[]>> = {
  nftables: ['table ip flannel-ipv4', 'table ip6 flannel-ipv6'],
  iptables: [
    'ip6tables filter FLANNEL-FWD',
    'ip6tables nat FLANNEL-POSTRTG',
    'iptables filter FLANNEL-FWD',
    'iptables nat FLANNEL-POSTRTG',
  ],
  'iptables, older form': [
    'ip6tables-legacy filter FLANNEL-FWD',
    'ip6tables-legacy nat FLANNEL-POSTRTG',
    'iptables-legacy filter FLANNEL-FWD',
    'iptables-legacy nat FLANNEL-POSTRTG',
  ],
};

/** What the rules of flannel are and have counted, with the handles that they have in nftables. */
function stateOf({ program }: Variant): string {
  const text = [
    runAt('node', 'nft', '-a', 'list', 'ruleset').replaceAll(/^table ip6? (?!flannel).*\{(\n.*)*?\n\}$/gm, ''),
    ...Object.values(program).flatMap((name) =>
      runAt('node', `${name}-save`, '-c')
        .split('\n')
        .filter((line) => /flannel/i.test(line)),
    ),
  ];
  return text.join('\n');
}

function generation(): number {
  const connection = inNamespace(netns('node'), () => NftConnection.open());
  try {
    return connection.generation();
  } finally {
    connection.close();
  }
}

describe('masquerading', () => {
  let poller: Poller;
  const running: Masquerade[] = [];

  const start = async (variant: Variant, options: Partial<MasqueradeOptions> = {}): Promise<Masquerade> => {
    const masquerade = await inNamespace(netns('node'), () =>
      Masquerade.start({
        mode: variant.mode,
        families: FAMILIES.map((family) => CLUSTER[family]),
        masquerade: true,
        forward: true,
        randomFully: true,
        poller,
        resyncSeconds: 3600,
        onRepair: (what) => assert.fail(`repaired: ${what}`),
        onError: (error) => assert.fail(String(error)),
        spawn: variant.spawn,
        ...options,
      }),
    );
    running.push(masquerade);
    return masquerade;
  };
  const remove = (modes: readonly MasqueradeMode[]): Promise<string[]> =>
    inNamespace(netns('node'), () => removeMasquerade(modes, { spawn: spawnOnNode }));

  before(function () {
    onlyInSandbox(this);
    makeTopology();
    poller = new Poller();
  });
  afterEach(() => {
    for (const masquerade of running.splice(0)) masquerade.close();
    wipe();
  });
  after(() => {
    poller?.close();
    if (poller !== undefined) removeTopology();
  });

  for (const variant of VARIANTS) {
    describe(`in mode ${variant.name}`, () => {
      before(function () {
        if (variant !== LEGACY || legacyWorks()) return;
        console.error('      skipped: no iptables-legacy, or the kernel does not have it');
        this.skip();
      });

      for (const family of FAMILIES) {
        const { pod, remotePod, remote, outside, gateway, node, nodeToRemote, nodeOther, multicast } = ADDRESSES[family];
        const becomes = async (sending: Sending, expected: typeof pod): Promise<void> =>
          assert.equal(await seenAs(sending), formatAddress(expected));

        describe(`IPv${family}`, () => {
          it('shows a pod outside of the cluster under the address of the node', async () => {
            await start(variant);
            await becomes({ from: ['pod', pod], to: ['outside', outside] }, node);
          });

          it('leaves pods their addresses among themselves, and the world its own towards pods', async () => {
            await start(variant);
            await becomes({ from: ['pod', pod], to: ['remote', remotePod] }, pod);
            await becomes({ from: ['remote', remotePod], to: ['pod', pod] }, remotePod);
            await becomes({ from: ['outside', outside], to: ['pod', pod] }, outside);
            await becomes({ from: ['pod', pod], to: ['node', gateway] }, pod);
          });

          it('does not masquerade multicast', async () => {
            await start(variant);
            await becomes({ from: ['node', gateway], to: ['outside', outside] }, node);
            await becomes({ from: ['node', gateway], to: ['outside', multicast] }, gateway);
          });

          it('leaves packets alone that kube-proxy has marked', async () => {
            feedAt('node', MARKS, 'nft', '-f', '-');
            await start(variant);
            await becomes({ from: ['pod', pod], to: ['outside', outside], port: MARKED_PORT }, pod);
            await becomes({ from: ['pod', pod], to: ['outside', outside] }, node);
          });

          it(
            variant.mode === 'nftables'
              ? 'leaves the node its address towards pods of other nodes, as flanneld does in this mode'
              : 'masquerades the node towards pods of other nodes',
            async () => {
              await start(variant);
              await becomes(
                { from: ['node', nodeOther], to: ['remote', remotePod] },
                variant.mode === 'nftables' ? nodeOther : nodeToRemote,
              );
            },
          );

          it('masquerades nothing without being asked to', async () => {
            await start(variant, { masquerade: false });
            await becomes({ from: ['pod', pod], to: ['outside', outside] }, pod);
          });

          if (variant.mode === 'iptables') {
            it('forwards for pods though the policy of FORWARD drops, and not for others', async () => {
              const program = variant.program[family];
              runAt('node', program, '-P', 'FORWARD', 'DROP');
              await start(variant);
              await becomes({ from: ['pod', pod], to: ['outside', outside] }, node);
              assert.equal(droppedByPolicy(program), 0);
              await assertDropped(program, 'remote', remote);
            });
          } else {
            it('cannot override what another table drops', async () => {
              const program = variant.program[family];
              runAt('node', program, '-P', 'FORWARD', 'DROP');
              await start(variant);
              await assertDropped(program, 'pod', pod);
            });
          }
        });
      }

      it('is the same again after a restart, with what it has counted', async () => {
        const { pod, outside } = ADDRESSES[4];
        (await start(variant)).close();
        await seenAs({ from: ['pod', pod], to: ['outside', outside] });
        const before = [stateOf(variant), generation()];
        assert.match(String(before[0]), variant.mode === 'nftables' ? /postrtg .*# handle/ : /\[[1-9]\d*:\d+\] -A FLANNEL-POSTRTG/);
        await start(variant);
        assert.deepEqual([stateOf(variant), generation()], before);
      });
    });
  }

  for (const [from, to] of [
    [NFTABLES, IPTABLES],
    [IPTABLES, NFTABLES],
    [LEGACY, NFTABLES],
    [NFTABLES, LEGACY],
  ] as const) {
    it(`changes in place from ${from.name} to ${to.name}, and leaves the rules of others`, async function () {
      if ((from === LEGACY || to === LEGACY) && !legacyWorks()) return this.skip();
      const iptables = from.mode === 'iptables' ? from : to;
      for (const program of Object.values(iptables.program)) {
        runAt('node', program, '-t', 'nat', '-A', 'POSTROUTING', '-o', 'nowhere', '-j', 'MASQUERADE');
        runAt('node', program, '-A', 'FORWARD', '-o', 'nowhere', '-j', 'DROP');
      }
      (await start(from)).close();
      await start(to);
      const removed = await remove([from.mode]);
      assert.deepEqual(removed.toSorted(), REMOVED[from.name]);
      assert.deepEqual(await remove([from.mode]), []);
      assert.equal(runAt('node', 'nft', 'list', 'tables').includes('flannel-ipv'), to.mode === 'nftables');
      for (const program of Object.values(iptables.program)) {
        const saved = runAt('node', `${program}-save`);
        assert.equal(saved.includes('FLANNEL') || saved.includes('flanneld'), to.mode === 'iptables');
        assert.equal(saved.match(/-o nowhere/g)?.length, 2);
      }
      for (const family of FAMILIES) {
        const { pod, outside, node } = ADDRESSES[family];
        assert.equal(await seenAs({ from: ['pod', pod], to: ['outside', outside] }), formatAddress(node));
      }
    });
  }

  it('is removed in every mode at once', async () => {
    await start(NFTABLES);
    await start(IPTABLES);
    if (legacyWorks()) await start(LEGACY);
    for (const masquerade of running.splice(0)) masquerade.close();
    assert.equal((await remove(['nftables', 'iptables'])).length, legacyWorks() ? 10 : 6);
    assert.ok(!/flannel/i.test(runAt('node', 'nft', 'list', 'ruleset')));
    assert.deepEqual(await remove(['nftables', 'iptables']), []);
  });
});
