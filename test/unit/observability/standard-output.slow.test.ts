/** A process whose standard output nobody reads: it is not held up, whatever that leads to, and others who share it notice nothing. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemErrorCode } from '../../../src/errors.ts';
import { eventually } from '../../kernel/support/eventually.ts';

const ROOT = join(import.meta.dirname, '../../..');
const LINES = 10_000;

/** Writes lines, says so to its parent, and writes one more and ends when the parent says so. */
const PROGRAM = `
  import { readFileSync } from 'node:fs';
  import { LogWriter } from '${ROOT}/src/observability/log-writer.ts';
  import { openOutput } from '${ROOT}/src/observability/standard-output.ts';
  const writer = new LogWriter(openOutput());
  writer.tellOfDropped((dropped) => JSON.stringify({ dropped }) + '\\n');
  for (let line = 0; line < ${LINES}; line++) writer.write(JSON.stringify({ line, text: 'x'.repeat(80) }) + '\\n');
  const flags = /flags:\\s*(\\d+)/.exec(readFileSync('/proc/self/fdinfo/1', 'utf8'))[1];
  process.send({ dropped: writer.dropped, flags: parseInt(flags, 8) });
  process.on('message', () => {
    writer.flush(10_000);
    writer.write(JSON.stringify({ line: ${LINES} }) + '\\n');
    writer.flush(10_000);
    process.exit();
  });
`;

interface Said {
  readonly dropped: number;
  /** Of standard output, as open(2) has them. */
  readonly flags: number;
}

describe('standard output that nobody reads', function () {
  this.timeout(60_000);
  let directory: string;
  let child: ChildProcess | undefined;
  const files: number[] = [];

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-output-'));
  });
  afterEach(() => {
    child?.kill('SIGKILL');
    for (const file of files.splice(0)) closeSync(file);
  });
  after(() => rmSync(directory, { recursive: true }));

  /** Starts it, and waits until it has written. */
  async function start(output: number | 'pipe'): Promise<{ process: ChildProcess; said: Said }> {
    const started = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM], { stdio: ['ignore', output, 'inherit', 'ipc'] });
    child = started;
    let said: Said | undefined;
    started.once('message', (message) => (said = message as Said));
    await eventually(() => said !== undefined, 'it has written all, and waited for nobody');
    return { process: started, said: said ?? assert.fail() };
  }

  /** All lines are there, or one says how many are not. */
  function assertWhole(text: string, { dropped }: Said): void {
    const records = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { line?: number; dropped?: number });
    const lines = records.flatMap(({ line }) => line ?? []);
    assert.equal(lines.length, LINES + 1 - dropped);
    assert.equal(lines.at(-1), LINES);
    assert.deepEqual(
      records.flatMap((record) => record.dropped ?? []),
      dropped === 0 ? [] : [dropped],
    );
  }

  it('a pipe: is opened anew, so that it stays as it is for others', async () => {
    const path = join(directory, 'pipe');
    execFileSync('mkfifo', [path]);
    // Open for both first: a pipe without a reader cannot be opened for writing.
    const reading = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const writing = openSync(path, 'w');
    files.push(reading, writing);
    const { process: started, said } = await start(writing);
    assert.ok(said.dropped > 0);
    assert.equal(said.flags & constants.O_NONBLOCK, 0);
    started.send('go on');
    let text = '';
    const chunk = Buffer.alloc(1 << 16);
    await eventually(() => {
      try {
        for (;;) text += chunk.toString('utf8', 0, readSync(reading, chunk));
      } catch (error) {
        assert.equal(systemErrorCode(error), 'EAGAIN');
      }
      return text.includes(`{"line":${LINES}}`);
    }, 'the last line has come');
    assertWhole(text, said);
  });

  it('a socket: is told with each call', async () => {
    const { process: started, said } = await start('pipe');
    assert.ok(started.stdout !== null);
    assert.ok(said.dropped > 0);
    assert.equal(said.flags & constants.O_NONBLOCK, 0);
    let text = '';
    started.stdout.on('data', (chunk) => (text += String(chunk)));
    started.send('go on');
    await once(started.stdout, 'end');
    assertWhole(text, said);
  });

  it('a file: takes everything', async () => {
    const path = join(directory, 'file');
    const file = openSync(path, 'w');
    files.push(file);
    const { process: started, said } = await start(file);
    assert.equal(said.dropped, 0);
    started.send('go on');
    await once(started, 'exit');
    assertWhole(readFileSync(path, 'utf8'), said);
  });
});
