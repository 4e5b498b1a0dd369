import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KeptFile } from '../../../src/network/kept-file.ts';
import { eventually } from '../../kernel/support/eventually.ts';

describe('a kept file', () => {
  let root: string;
  let path: string;
  let repairs: string[];
  let problems: string[];
  const files: KeptFile[] = [];

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'sluice-kept-'));
    path = join(root, 'run/subnet.env');
    repairs = [];
    problems = [];
  });
  afterEach(() => {
    for (const file of files.splice(0)) file.close();
    rmSync(root, { recursive: true, force: true });
  });

  function keep(text: string, lookEveryMs?: number): KeptFile {
    const file = new KeptFile({
      path,
      onRepair: (what) => repairs.push(what),
      onProblem: (text) => problems.push(text),
      ...(lookEveryMs === undefined ? {} : { lookEveryMs }),
    });
    files.push(file);
    file.keep(text);
    return file;
  }

  function content(): string | undefined {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  }

  const restored = (text = 'A=1\n') =>
    eventually(
      () => content() === text,
      () => `${path} holds ${JSON.stringify(content())}`,
    );

  it('is there when it is asked for, for everybody to read, and nothing beside it', () => {
    keep('A=1\n');
    assert.equal(content(), 'A=1\n');
    assert.equal(statSync(path).mode & 0o777, 0o644);
    assert.deepEqual(readdirSync(join(root, 'run')), ['subnet.env']);
    assert.deepEqual([repairs, problems], [[], []]);
  });

  it('is not written where it is right already', () => {
    mkdirSync(join(root, 'run'));
    writeFileSync(path, 'A=1\n');
    const { ino } = statSync(path);
    keep('A=1\n');
    assert.equal(statSync(path).ino, ino);
  });

  it('is written again when it vanishes', async () => {
    keep('A=1\n', 60_000);
    rmSync(path);
    await restored();
    assert.deepEqual(repairs, [`${path} was missing; it is as it should be again`]);
  });

  it('is written again when somebody changes it, in place or by another file', async () => {
    keep('A=1\n', 60_000);
    writeFileSync(path, 'A=2\n');
    await restored();
    writeFileSync(join(root, 'other'), 'A=3\n');
    renameSync(join(root, 'other'), path);
    await restored();
    assert.deepEqual(
      repairs,
      Array.from({ length: 2 }, () => `${path} had been changed; it is as it should be again`),
    );
  });

  it('comes back with its directory, and is watched there too', async () => {
    keep('A=1\n', 60_000);
    rmSync(join(root, 'run'), { recursive: true });
    await restored();
    rmSync(path);
    await restored();
  });

  it('is looked at now and then, for what nobody tells of', async () => {
    keep('A=1\n', 20);
    // Nothing is told to who watches the directory of this name, which is another one now.
    renameSync(join(root, 'run'), join(root, 'gone'));
    mkdirSync(join(root, 'run'));
    writeFileSync(path, 'A=2\n');
    await restored();
  });

  it('has a new content as soon as it is asked for, which is no repair', () => {
    const file = keep('A=1\n');
    file.keep('A=2\n');
    assert.equal(content(), 'A=2\n');
    assert.deepEqual(repairs, []);
  });

  it('is fought over at most once a second', async () => {
    keep('A=1\n', 60_000);
    writeFileSync(path, 'A=2\n');
    await restored();
    const startedAt = performance.now();
    for (let turn = 0; turn < 2; turn++) {
      writeFileSync(path, 'A=2\n');
      await restored();
    }
    assert.ok(performance.now() - startedAt > 1_500, `${performance.now() - startedAt} ms`);
    assert.equal(repairs.length, 3);
  });

  it('that cannot be written is a problem, told once, and over when it can', async () => {
    writeFileSync(join(root, 'run'), 'no directory');
    const file = keep('A=1\n', 20);
    await eventually(() => file.problem !== undefined, 'a problem');
    rmSync(join(root, 'run'));
    await restored();
    await eventually(() => file.problem === undefined, 'no problem');
    assert.deepEqual(problems, [`${path} cannot be written: EEXIST`]);
    assert.deepEqual(repairs, []);
  });

  it('is left as it is by who closes it', async () => {
    keep('A=1\n', 20).close();
    writeFileSync(path, 'A=2\n');
    const other = join(root, 'other/file');
    mkdirSync(join(root, 'other'));
    path = other;
    keep('B=1\n', 20);
    rmSync(other);
    await restored('B=1\n');
    assert.equal(readFileSync(join(root, 'run/subnet.env'), 'utf8'), 'A=2\n');
  });

  it('is not what a crash has left half-written', () => {
    mkdirSync(join(root, 'run'));
    writeFileSync(`${path}.new`, 'half');
    chmodSync(`${path}.new`, 0o600);
    keep('A=1\n');
    assert.equal(content(), 'A=1\n');
    assert.equal(statSync(path).mode & 0o777, 0o644);
  });
});
