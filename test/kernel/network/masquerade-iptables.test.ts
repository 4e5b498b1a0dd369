/** The chains in iptables, in both its forms: what flanneld would have written, and put right whatever is done to them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { Poller } from 'nftables-js';
import { onlyInSandbox } from '../../../packages/nftables-js/test/eventually.ts';
import { SluiceError } from '../../../src/errors.ts';
import { inNamespace } from '../../../src/lab/namespaces.ts';
import { Masquerade, type MasqueradeOptions, removeMasquerade, type Spawn } from '../../../src/network/masquerade/masquerade.ts';
import type { Family } from '../../../src/policy/address.ts';
import { eventually } from '../support/eventually.ts';
import {
  CLUSTER,
  FAMILIES,
  feedAt,
  makeTopology,
  netns,
  type Place,
  prefix,
  removeTopology,
  runAt,
  spawnOnNode,
} from './masquerade-topology.ts';

const PROGRAMS: Readonly<Record<string, Readonly<Record<Family, string>>>> = {
  iptables: { 4: 'iptables', 6: 'ip6tables' },
  'iptables, older form': { 4: 'iptables-legacy', 6: 'ip6tables-legacy' },
};

/** The commands of flanneld 0.28 (CreateIP4Chain, then ipTablesBootstrap), for both families. */
function flanneld(place: Place, programs: Readonly<Record<Family, string>>, random = ' --random-fully'): void {
  for (const [family, cluster, pods, multicast] of [
    [4, '10.244.0.0/16', '10.244.1.0/24', '224.0.0.0/4'],
    [6, 'fd00:10:244::/48', 'fd00:10:244:1::/64', 'ff00::/8'],
  ] as const) {
    const program = programs[family];
    runAt(place, program, '-t', 'nat', '-N', 'FLANNEL-POSTRTG');
    runAt(place, program, '-N', 'FLANNEL-FWD');
    const comment = '-m comment --comment "flanneld masq"';
    const input = [
      '*nat',
      `-A POSTROUTING ${comment} -j FLANNEL-POSTRTG`,
      `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG -s ${pods} -d ${cluster} ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG -s ${cluster} -d ${pods} ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG ! -s ${cluster} -d ${pods} ${comment} -j RETURN`,
      `-A FLANNEL-POSTRTG -s ${cluster} ! -d ${multicast} ${comment} -j MASQUERADE${random}`,
      `-A FLANNEL-POSTRTG ! -s ${cluster} -d ${cluster} ${comment} -j MASQUERADE${random}`,
      'COMMIT',
      '*filter',
      '-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD',
      `-A FLANNEL-FWD -s ${cluster} -m comment --comment "flanneld forward" -j ACCEPT`,
      `-A FLANNEL-FWD -d ${cluster} -m comment --comment "flanneld forward" -j ACCEPT`,
      'COMMIT',
      '',
    ];
    feedAt(place, input.join('\n'), `${program}-restore`, '--noflush', '--wait');
  }
}

/**
 * Table by table, in the order of their names: which one comes first depends on which one was made first. Without what the policies
 * have counted, for a node always sends something.
 */
function saved(place: Place, programs: Readonly<Record<Family, string>>): string[] {
  return Object.values(programs).flatMap((program) =>
    runAt(place, `${program}-save`)
      .replaceAll(/^#.*\n| \[\d+:\d+\]$/gm, '')
      .split(/(?<=^COMMIT\n)/m)
      .toSorted(),
  );
}

function worksHere(programs: Readonly<Record<Family, string>>): boolean {
  try {
    for (const program of Object.values(programs)) runAt('elsewhere', program, '-t', 'nat', '-S');
    return true;
  } catch {
    return false;
  }
}

for (const [name, programs] of Object.entries(PROGRAMS)) {
  describe(`masquerading in ${name}`, () => {
    const isLegacy = programs[4] !== 'iptables';
    const spawnForm: Spawn = ([program = '', ...args], options) =>
      spawnOnNode([program.replace(/^ip6?tables/, (start) => programs[start === 'iptables' ? 4 : 6]), ...args], options);
    let poller: Poller;
    let repairs: string[];
    let errors: unknown[];
    /** Programs that were started. */
    let started: string[];
    const running: Masquerade[] = [];

    const start = async (options: Partial<MasqueradeOptions> = {}): Promise<Masquerade> => {
      const masquerade = await inNamespace(netns('node'), () =>
        Masquerade.start({
          mode: 'iptables',
          families: FAMILIES.map((family) => CLUSTER[family]),
          masquerade: true,
          forward: true,
          randomFully: true,
          poller,
          resyncSeconds: isLegacy ? 1 : 3600,
          onRepair: (what) => repairs.push(what),
          onError: (error) => errors.push(error),
          spawn: (argv, spawnOptions) => {
            started.push(argv.join(' '));
            return spawnForm(argv, spawnOptions);
          },
          ...options,
        }),
      );
      running.push(masquerade);
      return masquerade;
    };
    /** Nothing of ours, nothing of others, and the tables are there. */
    const clean = (place: Place): void => {
      if (!isLegacy) runAt(place, 'nft', 'flush', 'ruleset');
      for (const program of Object.values(programs)) {
        feedAt(place, '*nat\n-F\n-X\nCOMMIT\n*filter\n:FORWARD ACCEPT\n-F\n-X\nCOMMIT\n', `${program}-restore`, '--noflush');
      }
    };

    before(function () {
      onlyInSandbox(this);
      makeTopology();
      poller = new Poller();
      if (worksHere(programs)) return;
      console.error(`      skipped: no ${programs[4]}, or the kernel does not have it`);
      this.skip();
    });
    beforeEach(() => {
      repairs = [];
      errors = [];
      started = [];
      for (const place of ['node', 'elsewhere'] as const) clean(place);
    });
    afterEach(() => {
      for (const masquerade of running.splice(0)) masquerade.close();
    });
    after(() => {
      poller?.close();
      if (poller !== undefined) removeTopology();
    });

    it('leaves what flanneld leaves, beside what others have', async () => {
      for (const place of ['node', 'elsewhere'] as const) {
        runAt(place, programs[4], '-t', 'nat', '-A', 'POSTROUTING', '-s', '172.17.0.0/16', '-j', 'MASQUERADE');
        runAt(place, programs[4], '-P', 'FORWARD', 'DROP');
      }
      await start();
      flanneld('elsewhere', programs);
      assert.deepEqual(saved('node', programs), saved('elsewhere', programs));
    });

    it('leaves what flanneld leaves without random ports', async () => {
      await start({ randomFully: false });
      flanneld('elsewhere', programs, '');
      assert.deepEqual(saved('node', programs), saved('elsewhere', programs));
    });

    it('takes over from flanneld without writing anything', async () => {
      flanneld('node', programs);
      await start();
      assert.ok(!started.some((command) => command.includes('restore')));
    });

    it('asks for random ports, and waits for the lock, only where the programs can', async () => {
      await start({
        spawn: (argv, options) => {
          started.push(argv.join(' '));
          return argv[1] === '--version' ? spawn('echo', ['iptables v1.6.1'], options) : spawnForm(argv, options);
        },
      });
      flanneld('elsewhere', programs, '');
      assert.deepEqual(saved('node', programs), saved('elsewhere', programs));
      assert.ok(started.includes('iptables-restore --noflush') && !started.join().includes('wait'));
    });

    it('replaces the rules of another network, with the jumps where they were', async () => {
      (await start()).close();
      const moved = [{ family: 4, network: prefix('10.96.0.0/12'), subnet: prefix('10.97.3.0/24') } as const];
      await start({ families: moved });
      const text = saved('node', programs).join('');
      assert.match(text, /-A FLANNEL-POSTRTG ! -s 10\.96\.0\.0\/12 -d 10\.97\.3\.0\/24 /);
      assert.ok(!text.includes('10.244.'));
      assert.equal(text.match(/-j FLANNEL-(POSTRTG|FWD)/g)?.length, 4);
      assert.deepEqual(repairs, []);
    });

    it('removes the chains that are not wanted any more', async () => {
      (await start()).close();
      await start({ masquerade: false, forward: false });
      assert.ok(!/flannel/i.test(saved('node', programs).join('')));
    });

    describe('puts right', () => {
      for (const [what, damage, expected] of [
        ['a chain that is emptied', [['-t', 'nat', '-F', 'FLANNEL-POSTRTG']], ['nat FLANNEL-POSTRTG: its rules were others']],
        ['a rule that is deleted', [['-D', 'FLANNEL-FWD', '2']], ['filter FLANNEL-FWD: its rules were others']],
        ['a rule that is added', [['-t', 'nat', '-I', 'FLANNEL-POSTRTG', '-j', 'ACCEPT']], ['nat FLANNEL-POSTRTG: its rules were others']],
        ['a jump that is deleted', [['-D', 'FORWARD', '1']], ['filter FORWARD: the jump to FLANNEL-FWD was missing']],
        [
          'a chain that is deleted',
          [
            ['-t', 'nat', '-F', 'POSTROUTING'],
            ['-t', 'nat', '-F', 'FLANNEL-POSTRTG'],
            ['-t', 'nat', '-X', 'FLANNEL-POSTRTG'],
          ],
          ['nat FLANNEL-POSTRTG: was missing', 'nat POSTROUTING: the jump to FLANNEL-POSTRTG was missing'],
        ],
        [
          'a table that is emptied',
          [['-F'], ['-X']],
          ['filter FLANNEL-FWD: was missing', 'filter FORWARD: the jump to FLANNEL-FWD was missing'],
        ],
      ] as const) {
        for (const family of FAMILIES) {
          it(`${what}, IPv${family}`, async () => {
            await start();
            const before = saved('node', programs);
            for (const args of damage) runAt('node', programs[family], ...args);
            const since = performance.now();
            await eventually(() => JSON.stringify(saved('node', programs)) === JSON.stringify(before), 'the rules as they were');
            const tookMs = performance.now() - since;
            assert.ok(tookMs < (isLegacy ? 2500 : 1000), `${tookMs} ms`);
            await eventually(() => repairs.length > 0, 'word of it');
            // Between two commands it may have been quicker than the test.
            for (const repair of new Set(repairs)) {
              assert.ok(
                expected.some((text) => repair === `${family === 4 ? 'iptables' : 'ip6tables'} ${text}`) || damage.length > 1,
                repair,
              );
            }
            assert.deepEqual(errors, []);
          });
        }
      }

      if (!isLegacy) {
        it('a ruleset that is flushed', async () => {
          await start();
          const before = saved('node', programs).filter((table) => /flannel/i.test(table));
          runAt('node', 'nft', 'flush', 'ruleset');
          await eventually(() => JSON.stringify(saved('node', programs)) === JSON.stringify(before), 'the rules as they were');
        });
      }
    });

    if (!isLegacy) {
      it('takes what others change while it starts for no change of its rules', async () => {
        await start({
          spawn: (argv, options) => {
            if (argv[1] === '--version') runAt('node', 'iptables', '-t', 'nat', '-N', argv[0] === 'iptables' ? 'KUBE-4' : 'KUBE-6');
            return argv[1] === '--version'
              ? spawn('sh', ['-c', 'sleep 0.3; echo v1.8.9 "(nf_tables)"'], options)
              : spawnForm(argv, options);
          },
        });
        assert.deepEqual(repairs, []);
        flanneld('elsewhere', programs);
        assert.deepEqual(
          saved('node', programs)
            .join('')
            .replaceAll(/^:KUBE-.*\n/gm, ''),
          saved('elsewhere', programs).join(''),
        );
      });

      it('starts no program for what others change beside it', async () => {
        await start();
        started = [];
        runAt('node', 'iptables', '-t', 'nat', '-N', 'KUBE-SERVICES');
        // That nothing happens takes its time: more than two checks are apart.
        await sleep(1000);
        runAt('node', 'iptables', '-t', 'nat', '-A', 'POSTROUTING', '-j', 'KUBE-SERVICES');
        await sleep(1000);
        assert.deepEqual(started, []);
        runAt('node', 'iptables', '-t', 'nat', '-F', 'FLANNEL-POSTRTG');
        await eventually(() => repairs.length > 0, 'a repair');
        assert.deepEqual(started, ['iptables-save', 'iptables-restore --noflush --wait=10', 'iptables-save']);
      });
    }

    it('says which package is missing', async () => {
      await assert.rejects(start({ spawn: (argv, options) => spawn(`${argv[0]}-that-is-nowhere`, argv.slice(1), options) }), (error) => {
        assert.ok(error instanceof SluiceError);
        assert.equal(error.code, 'IPTABLES_MISSING');
        assert.match(error.message, /there is no program iptables$/);
        assert.match(error.hint ?? '', /apt-get install iptables/);
        return true;
      });
    });

    it('says what a program says that refuses, and tries again', async () => {
      let refuses = false;
      await start({
        resyncSeconds: 1,
        spawn: (argv, options) =>
          refuses && argv[0]?.endsWith('-restore') === true
            ? spawn('sh', ['-c', 'echo no luck >&2; exit 4'], options)
            : spawnForm(argv, options),
      });
      const before = saved('node', programs);
      refuses = true;
      runAt('node', programs[4], '-F', 'FLANNEL-FWD');
      await eventually(() => errors.length > 0, 'an error');
      const [error] = errors;
      assert.ok(error instanceof SluiceError);
      assert.equal(error.code, 'IPTABLES_FAILED');
      assert.equal(error.message, 'iptables-restore --noflush --wait=10 ended with status 4: no luck');
      refuses = false;
      await eventually(() => JSON.stringify(saved('node', programs)) === JSON.stringify(before), 'the rules as they were');
    });

    it('says what differs where rules are never as they were written', async () => {
      await assert.rejects(
        start({
          spawn: (argv, options) => (argv[0]?.endsWith('-restore') === true ? spawn('true', [], options) : spawnForm(argv, options)),
        }),
        (error) => {
          assert.ok(error instanceof SluiceError);
          assert.equal(error.code, 'IPTABLES_DIFFER');
          assert.match(error.message, /nat FLANNEL-POSTRTG: was missing/);
          return true;
        },
      );
    });

    it('is removed even where flanneld cleans up in vain', async () => {
      flanneld('node', programs);
      // What flanneld 0.28 does when it changes to nftables: the jump keeps the chain, and FLANNEL-FWD is looked for in nat.
      for (const program of Object.values(programs)) runAt('node', program, '-t', 'nat', '-F', 'FLANNEL-POSTRTG');
      const removed = await inNamespace(netns('node'), () => removeMasquerade(['iptables'], { spawn: spawnOnNode }));
      assert.equal(removed.length, 4);
      assert.ok(!/flannel/i.test(saved('node', programs).join('')));
    });

    if (!isLegacy) {
      it('is removed without programs', async () => {
        await start();
        for (const masquerade of running.splice(0)) masquerade.close();
        const removed = await inNamespace(netns('node'), () =>
          removeMasquerade(['iptables'], { spawn: (argv, options) => spawn(`${argv[0]}-that-is-nowhere`, argv.slice(1), options) }),
        );
        assert.equal(removed.length, 4);
        assert.ok(!/flannel/i.test(saved('node', programs).join('')));
      });
    }
  });
}
