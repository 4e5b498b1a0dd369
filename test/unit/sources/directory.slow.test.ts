import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as fc from 'fast-check';
import { SluiceError } from '../../../src/errors.ts';
import { DirectorySource } from '../../../src/sources/directory.ts';
import { loadDirectory } from '../../../src/sources/load-directory.ts';
import { documents, eventually, namespaceYaml, podYaml, policyYaml, Recorder } from './manifests.ts';

describe('a directory as a source', () => {
  let directory: string;
  let recorder: Recorder;
  let source: DirectorySource;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-source-'));
    recorder = new Recorder();
    source = new DirectorySource(directory);
  });

  afterEach(async () => {
    await source.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  function write(path: string, text: string): void {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  async function hasNames(...names: string[]): Promise<void> {
    await eventually(() => assert.deepEqual(recorder.names(), names.toSorted()));
  }

  /** The events since `before` batches, once something that is sure to be seen has been seen after them. */
  async function eventsSince(before: number): Promise<string[]> {
    write('zz-marker.yaml', namespaceYaml('marker'));
    await eventually(() => assert.ok(recorder.objects.has('Namespace marker')));
    return recorder.batches
      .slice(before)
      .flat()
      .filter((event) => event !== 'upsert Namespace marker');
  }

  describe('at the start', () => {
    it('emits what is there, then synced, in one batch', async () => {
      write('pods.yaml', documents(podYaml('a'), podYaml('b')));
      write('deep/er/policy.yml', policyYaml('p'));
      write('namespace.json', JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'dev' } }));
      await source.start(recorder);
      assert.deepEqual(recorder.batches, [
        ['upsert Namespace dev', 'upsert Pod dev/a', 'upsert Pod dev/b', 'upsert NetworkPolicy dev/p', 'synced'],
      ]);
    });

    it('is synced with nothing there, and with nothing that can be read', async () => {
      write('broken.yaml', 'kind: [\n');
      await source.start(recorder);
      assert.deepEqual(recorder.batches, [['synced']]);
      assert.deepEqual(recorder.problemTexts(), ['broken.yaml:2 error SYNTAX_INVALID']);
    });

    it('reads neither hidden files nor those of editors, nor other endings', async () => {
      for (const name of [
        '.a.yaml',
        '.a.yaml.swp',
        'a.yaml~',
        '#a.yaml#',
        '.#a.yaml',
        '4913',
        'a.yaml.tmp',
        'a.txt',
        'old~/a.yaml',
        '.git/a.yaml',
      ]) {
        write(name, podYaml('hidden'));
      }
      write('A.YAML', podYaml('a'));
      await source.start(recorder);
      assert.deepEqual(recorder.names(), ['Pod dev/a']);
      assert.deepEqual(recorder.problemTexts(), []);
    });

    it('says so where there is no such directory, and what to do', async () => {
      write('a.yaml', podYaml('a'));
      for (const [path, code] of [
        [join(directory, 'missing'), 'SOURCE_DIRECTORY_MISSING'],
        [join(directory, 'a.yaml'), 'SOURCE_NOT_A_DIRECTORY'],
      ] as const) {
        await assert.rejects(new DirectorySource(path).start(recorder), (error) => {
          assert.ok(error instanceof SluiceError);
          assert.equal(error.code, code);
          assert.ok(error.message.includes(path) && error.hint !== undefined);
          return true;
        });
      }
      assert.deepEqual(recorder.batches, []);
    });

    it('refuses a file that is not UTF-8, and takes a byte order mark off', async () => {
      writeFileSync(join(directory, 'latin1.yaml'), Buffer.from(podYaml('a', '{app: "\u00e9"}'), 'latin1'));
      write('bom.yaml', `\uFEFF${podYaml('b')}`);
      await source.start(recorder);
      assert.deepEqual(recorder.names(), ['Pod dev/b']);
      assert.deepEqual(recorder.problemTexts(), ['latin1.yaml:- error ENCODING_INVALID']);
    });

    it('follows links, and not in circles', async () => {
      const elsewhere = mkdtempSync(join(tmpdir(), 'sluice-elsewhere-'));
      writeFileSync(join(elsewhere, 'data'), podYaml('a'));
      symlinkSync(join(elsewhere, 'data'), join(directory, 'a.yaml'));
      mkdirSync(join(directory, 'sub'));
      symlinkSync(directory, join(directory, 'sub', 'up'));
      try {
        await source.start(recorder);
        assert.deepEqual(recorder.names(), ['Pod dev/a']);
        assert.deepEqual(recorder.problemTexts(), []);
        writeFileSync(join(elsewhere, 'data'), podYaml('b'));
        await hasNames('Pod dev/b');
      } finally {
        rmSync(elsewhere, { recursive: true });
      }
    });
  });

  describe('afterwards', () => {
    beforeEach(async () => {
      write('a.yaml', podYaml('a'));
      write('sub/b.yaml', podYaml('b'));
      await source.start(recorder);
    });

    it('sees a file that is written, added and removed', async () => {
      write('a.yaml', podYaml('a', '{app: new}'));
      write('c.json', JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'c' } }));
      await hasNames('Pod default/c', 'Pod dev/a', 'Pod dev/b');
      await eventually(() => assert.ok(recorder.batches.flat().filter((event) => event === 'upsert Pod dev/a').length === 2));
      rmSync(join(directory, 'c.json'));
      await hasNames('Pod dev/a', 'Pod dev/b');
    });

    it('sees a file that is replaced by renaming', async () => {
      write('.a.yaml.new', podYaml('renamed'));
      renameSync(join(directory, '.a.yaml.new'), join(directory, 'a.yaml'));
      await hasNames('Pod dev/b', 'Pod dev/renamed');
    });

    it('sees directories that are made, renamed, removed and made again', async () => {
      write('new/deep/c.yaml', podYaml('c'));
      await hasNames('Pod dev/a', 'Pod dev/b', 'Pod dev/c');
      renameSync(join(directory, 'new'), join(directory, 'moved'));
      write('moved/deep/d.yaml', podYaml('d'));
      await hasNames('Pod dev/a', 'Pod dev/b', 'Pod dev/c', 'Pod dev/d');
      rmSync(join(directory, 'moved'), { recursive: true });
      rmSync(join(directory, 'sub'), { recursive: true });
      await hasNames('Pod dev/a');
      write('sub/b.yaml', podYaml('again'));
      await hasNames('Pod dev/a', 'Pod dev/again');
      write('sub/b.yaml', podYaml('further'));
      await hasNames('Pod dev/a', 'Pod dev/further');
    });

    it('follows a directory that is removed and made again at once', async () => {
      // If it gets the inode of the old one (as it does on ext4), it looks as if it were watched already.
      const sub = join(directory, 'sub');
      const { ino } = statSync(sub);
      for (let i = 0; i < 50 && (i === 0 || statSync(sub).ino !== ino); i++) {
        rmSync(sub, { recursive: true });
        mkdirSync(sub);
      }
      write('sub/b.yaml', podYaml('c'));
      await hasNames('Pod dev/a', 'Pod dev/c');
      // Until the notices of all this have run out, so that only a new watch can tell of what comes next.
      await sleep(100);
      write('sub/b.yaml', podYaml('d'));
      await hasNames('Pod dev/a', 'Pod dev/d');
    });

    it('emits nothing where nothing differs for policy', async () => {
      const before = recorder.batches.length;
      write('a.yaml', `# a comment\n${podYaml('a')}spec:\n  priority: 3\n`);
      utimesSync(join(directory, 'sub/b.yaml'), 0, 0);
      renameSync(join(directory, 'sub/b.yaml'), join(directory, 'sub/c.yaml'));
      assert.deepEqual(await eventsSince(before), []);
    });

    it('emits in one batch what is changed together', async () => {
      for (let i = 0; i < 20; i++) write(`many/${i}.yaml`, podYaml(`many-${i}`));
      await hasNames('Pod dev/a', 'Pod dev/b', ...Array.from({ length: 20 }, (_, i) => `Pod dev/many-${i}`));
      assert.equal(recorder.batches.length, 2);
    });

    it('keeps what a file said that is broken, or cannot be looked at', async () => {
      write('a.yaml', 'kind: [\n');
      rmSync(join(directory, 'sub/b.yaml'));
      symlinkSync('nowhere', join(directory, 'sub/b.yaml'));
      await eventually(() =>
        assert.deepEqual(recorder.problemTexts(), ['a.yaml:2 error SYNTAX_INVALID', 'sub/b.yaml:- error FILE_UNREADABLE']),
      );
      assert.deepEqual(recorder.names(), ['Pod dev/a', 'Pod dev/b']);
      rmSync(join(directory, 'sub/b.yaml'));
      write('a.yaml', podYaml('mended'));
      await hasNames('Pod dev/mended');
      assert.deepEqual(recorder.problemTexts(), []);
    });

    it('keeps what is in a directory that cannot be listed', async function () {
      if (process.getuid?.() === 0) this.skip();
      chmodSync(join(directory, 'sub'), 0);
      try {
        await eventually(() => assert.deepEqual(recorder.problemTexts(), ['sub:- error DIRECTORY_UNREADABLE']));
        assert.deepEqual(recorder.names(), ['Pod dev/a', 'Pod dev/b']);
      } finally {
        chmodSync(join(directory, 'sub'), 0o755);
      }
      await eventually(() => assert.deepEqual(recorder.problemTexts(), []));
    });

    it('keeps what is in a linked directory while the link leads nowhere', async () => {
      write('.v1/c.yaml', podYaml('c'));
      symlinkSync('.v1', join(directory, 'link'));
      symlinkSync('nowhere', join(directory, 'README'));
      await hasNames('Pod dev/a', 'Pod dev/b', 'Pod dev/c');
      renameSync(join(directory, '.v1'), join(directory, '.v2'));
      await eventually(() => assert.deepEqual(recorder.problemTexts(), ['link:- error DIRECTORY_UNREADABLE']));
      assert.deepEqual(recorder.names(), ['Pod dev/a', 'Pod dev/b', 'Pod dev/c']);
      rmSync(join(directory, 'link'));
      await hasNames('Pod dev/a', 'Pod dev/b');
      assert.deepEqual(recorder.problemTexts(), []);
    });

    it('keeps everything while the directory itself is gone, and goes on when it is back', async () => {
      const aside = `${directory}-aside`;
      renameSync(directory, aside);
      await eventually(() => assert.deepEqual(recorder.problemTexts(), [`${directory}:- error SOURCE_LOST`]));
      assert.deepEqual(recorder.names(), ['Pod dev/a', 'Pod dev/b']);
      renameSync(aside, directory);
      await eventually(() => assert.deepEqual(recorder.problemTexts(), []));
      write('sub/b.yaml', podYaml('c'));
      await hasNames('Pod dev/a', 'Pod dev/c');
    });

    it('is silent once it is stopped', async () => {
      write('a.yaml', podYaml('late'));
      await source.stop();
      const before = recorder.batches.length;
      write('a.yaml', podYaml('later'));
      await sleep(100);
      assert.equal(recorder.batches.length, before);
    });
  });

  describe('with a file that is not left alone for the quiet time', () => {
    beforeEach(async () => {
      write('a.yaml', podYaml('a'));
      write('sub/b.yaml', podYaml('b'));
      // Longer than any pause that a busy machine puts between two writes of these tests.
      source = new DirectorySource(directory, { quietMs: 400 });
      await source.start(recorder);
    });

    it('does not take it for whole while it is being written', async () => {
      const before = recorder.batches.length;
      // Emptied, then written in pieces, as a slow editor would: each piece is valid, and says less than the whole.
      truncateSync(join(directory, 'a.yaml'));
      for (const piece of documents(podYaml('a'), podYaml('x')).split(/(?<=\n)/u)) {
        await sleep(3);
        appendFileSync(join(directory, 'a.yaml'), piece);
      }
      await hasNames('Pod dev/a', 'Pod dev/b', 'Pod dev/x');
      assert.deepEqual(await eventsSince(before), ['upsert Pod dev/x']);
    });

    it('does not take it for empty while who writes it has only emptied it', async () => {
      const quick = new DirectorySource(directory);
      write('a.yaml', podYaml('a'));
      const heard = new Recorder();
      try {
        await quick.start(heard);
        truncateSync(join(directory, 'a.yaml'), 0);
        // A busy machine: many quiet times.
        await sleep(300);
        assert.deepEqual(heard.names(), ['Pod dev/a', 'Pod dev/b']);
        writeFileSync(join(directory, 'a.yaml'), '{ broken');
        await eventually(() =>
          assert.deepEqual(
            heard.problemTexts().map((text) => text.split(' ').at(-1)),
            ['SYNTAX_INVALID'],
          ),
        );
        assert.deepEqual(heard.names(), ['Pod dev/a', 'Pod dev/b']);
        truncateSync(join(directory, 'a.yaml'), 0);
        await eventually(() => assert.deepEqual(heard.names(), ['Pod dev/b']));
      } finally {
        await quick.stop();
      }
    });

    it('does not take it for removed if it is back at once', async () => {
      const before = recorder.batches.length;
      for (let i = 0; i < 10; i++) {
        rmSync(join(directory, 'a.yaml'));
        await sleep(2);
        write('a.yaml', podYaml('a'));
        await sleep(2);
      }
      assert.deepEqual(await eventsSince(before), []);
    });
  });

  it('follows the swap of links by which a ConfigMap mount is updated, as one change', async () => {
    const publish = (version: string, files: Record<string, string>): void => {
      for (const [name, text] of Object.entries(files)) write(`..${version}/${name}`, text);
      symlinkSync(`..${version}`, join(directory, '..data_tmp'));
      renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
    };
    publish('v1', { 'pods.yaml': podYaml('a'), 'policies.yaml': policyYaml('p') });
    for (const name of ['pods.yaml', 'policies.yaml']) symlinkSync(`..data/${name}`, join(directory, name));
    await source.start(recorder);
    assert.deepEqual(recorder.names(), ['NetworkPolicy dev/p', 'Pod dev/a']);
    publish('v2', { 'pods.yaml': podYaml('b'), 'policies.yaml': policyYaml('q') });
    rmSync(join(directory, '..v1'), { recursive: true });
    await hasNames('NetworkPolicy dev/q', 'Pod dev/b');
    assert.deepEqual(recorder.batches.slice(1), [
      ['upsert Pod dev/b', 'upsert NetworkPolicy dev/q', 'delete NetworkPolicy dev/p', 'delete Pod dev/a'],
    ]);
    publish('v3', { 'pods.yaml': podYaml('c'), 'policies.yaml': policyYaml('q') });
    await hasNames('NetworkPolicy dev/q', 'Pod dev/c');
  });

  it('may be a link itself, and follows it when it is pointed elsewhere', async () => {
    write('v1/a.yaml', podYaml('a'));
    write('v2/a.yaml', podYaml('b'));
    symlinkSync('v1', join(directory, 'current'));
    const linked = new DirectorySource(join(directory, 'current'));
    try {
      await linked.start(recorder);
      symlinkSync('v2', join(directory, 'next'));
      renameSync(join(directory, 'next'), join(directory, 'current'));
      await hasNames('Pod dev/b');
    } finally {
      await linked.stop();
    }
  });

  it('ends up with what a fresh start finds, after any edits', async () => {
    const file = fc.constantFrom('a.yaml', 'b.json', 'sub/a.yaml', 'sub/deep/b.yml');
    const name = fc.constantFrom('a', 'b', 'c');
    const text = fc.oneof(
      fc.array(name, { maxLength: 3 }).map((names) => documents(...names.map((one) => podYaml(one)))),
      fc.tuple(name, fc.constantFrom('x', 'z')).map(([one, app]) => podYaml(one, `{app: ${app}}`)),
      name.map((one) => policyYaml(one, '10.0.0.5/99')),
    );
    const pause = fc.constantFrom(0, 0, 0, 1, 5, 30);
    const edit = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('write' as const), file, text, pause }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('write' as const), file, text: fc.constant('kind: [\n'), pause }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('replace' as const), file, text, pause }) },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant('remove' as const), file: fc.oneof(file, fc.constantFrom('sub', 'sub/deep')), pause }),
      },
      {
        weight: 2,
        arbitrary: fc.record({
          kind: fc.constant('rename' as const),
          file: fc.oneof(file, fc.constant('sub')),
          to: fc.oneof(file, fc.constant('other')),
          pause,
        }),
      },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('link' as const),
          file,
          to: fc.constantFrom('/dev/null', '..', 'a.yaml', 'nowhere'),
          pause,
        }),
      },
    );
    const attempt = (act: () => void): void => {
      try {
        act();
      } catch {
        // The edit makes no sense where it is (a file where a directory should be): then it is no edit.
      }
    };
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 12 }), async (edits) => {
        const root = mkdtempSync(join(directory, 'run-'));
        const lived = new Recorder();
        const follower = new DirectorySource(root);
        await follower.start(lived);
        for (const one of edits) {
          const path = join(root, one.file);
          attempt(() => {
            mkdirSync(dirname(path), { recursive: true });
            if (one.kind === 'write') writeFileSync(path, one.text);
            else if (one.kind === 'replace') {
              writeFileSync(`${path}~`, one.text);
              renameSync(`${path}~`, path);
            } else if (one.kind === 'remove') rmSync(path, { recursive: true });
            else if (one.kind === 'rename') renameSync(path, join(root, one.to));
            else symlinkSync(one.to, path);
          });
          if (one.pause > 0) await sleep(one.pause);
        }
        // Whatever is broken is taken away, so that no last good state is left.
        for (const { origin } of (await loadDirectory(root)).problems.filter(
          ({ code }) => code === 'SYNTAX_INVALID' || code === 'FILE_UNREADABLE',
        )) {
          rmSync(join(root, origin.replace(/#\d+$/u, '')), { force: true });
        }
        const fresh = new Recorder();
        const starter = new DirectorySource(root);
        await starter.start(fresh);
        try {
          await eventually(() => {
            assert.deepEqual(lived.objects, fresh.objects);
            assert.deepEqual(lived.wrong, fresh.wrong);
          });
        } finally {
          await Promise.all([follower.stop(), starter.stop()]);
        }
      }),
      { numRuns: 25 },
    );
  });
});

describe('a directory that is read once', () => {
  it('gives its objects by kind, and all that is wrong', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-load-'));
    try {
      writeFileSync(join(directory, 'a.yaml'), documents(podYaml('b'), podYaml('a'), namespaceYaml('dev'), policyYaml('p', 'x')));
      writeFileSync(join(directory, 'b.yaml'), 'apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\n');
      const contents = await loadDirectory(directory);
      assert.deepEqual(
        [contents.pods, contents.namespaces, contents.nodes, contents.policies].map((objects) => objects.map(({ name }) => name)),
        [['a', 'b'], ['dev'], ['node-1'], ['p']],
      );
      assert.deepEqual(
        contents.problems.map(({ code }) => code),
        ['CIDR_INVALID'],
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  describe('that somebody has made hard to read', () => {
    let directory: string;

    beforeEach(() => {
      directory = mkdtempSync(join(tmpdir(), 'sluice-hard-'));
      writeFileSync(join(directory, 'good.yaml'), namespaceYaml('good'));
    });
    afterEach(() => rmSync(directory, { recursive: true }));

    /** What it holds, and what is wrong, read within a few seconds. */
    async function load(): Promise<{ readonly names: readonly string[]; readonly codes: readonly string[] }> {
      const startedAt = performance.now();
      const { namespaces, problems } = await loadDirectory(directory);
      assert.ok(performance.now() - startedAt < 5_000, `${performance.now() - startedAt} ms`);
      return { names: namespaces.map(({ name }) => name), codes: problems.map(({ origin, code }) => `${origin} ${code}`) };
    }

    it('lists each directory once, however many links lead to it from one another', async () => {
      for (let from = 0; from < 9; from++) {
        mkdirSync(join(directory, `d${from}`));
        writeFileSync(join(directory, `d${from}`, 'a.yaml'), namespaceYaml(`n${from}`));
        for (let to = 0; to < 9; to++) if (to !== from) symlinkSync(`../d${to}`, join(directory, `d${from}`, `to${to}`));
      }
      const { names, codes } = await load();
      assert.deepEqual(names, ['good', ...Array.from({ length: 9 }, (_, index) => `n${index}`)]);
      assert.deepEqual(codes, []);
    });

    it('reads no file that is too large, and says how large it is', async () => {
      writeFileSync(join(directory, 'large.yaml'), '');
      // A hole: it takes no room.
      truncateSync(join(directory, 'large.yaml'), 2 ** 31);
      const { names, codes } = await load();
      assert.deepEqual([names, codes], [['good'], ['large.yaml FILE_TOO_LARGE']]);
    });

    it('waits for no pipe, and reads no device', async () => {
      execFileSync('mkfifo', [join(directory, 'pipe.yaml')]);
      execFileSync('mkfifo', [join(directory, 'pipe')]);
      symlinkSync('pipe', join(directory, 'linked.yaml'));
      symlinkSync('/dev/zero', join(directory, 'zero.yaml'));
      const { names, codes } = await load();
      assert.deepEqual([names, codes], [['good'], []]);
    });

    it('goes no deeper than anybody means to', async () => {
      const deep = Array.from({ length: 100 }, () => 'd').join('/');
      mkdirSync(join(directory, deep), { recursive: true });
      writeFileSync(join(directory, deep, 'a.yaml'), namespaceYaml('deep'));
      const { names, codes } = await load();
      assert.deepEqual(names, ['good']);
      assert.match(codes.join(), /^d(\/d)+ DIRECTORY_UNREADABLE$/u);
    });
  });

  it('says so where there is none', async () => {
    await assert.rejects(loadDirectory('/nowhere/at/all'), { code: 'SOURCE_DIRECTORY_MISSING' });
  });
});
