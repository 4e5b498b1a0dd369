import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Expectation, type ExpectedProbe } from '../../../src/lab/expectation.ts';

describe('expect.yaml', () => {
  let directory: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  });

  after(() => rmSync(directory, { recursive: true }));

  const read = (text: string): Expectation => {
    const file = join(directory, 'expect.yaml');
    writeFileSync(file, text);
    return Expectation.read(file);
  };

  const probe = (source: string, destination: string, what = '80/TCP', family: 4 | 6 = 4): ExpectedProbe => {
    const [port = '0', protocol] = what === 'ICMP' ? ['0', 'ICMP'] : what.split('/');
    return { source, destination, port: Number(port), protocol: protocol as ExpectedProbe['protocol'], family };
  };

  it('lets the last row decide that fits, and the default where none does', () => {
    const expectation = read('default: allow\nrows:\n  - deny any -> dev/web\n  - allow dev/* -> dev/web\n  - deny dev/bad -> dev/web\n');
    assert.equal(expectation.verdict(probe('prod/a', 'dev/db')), 'allowed');
    assert.equal(expectation.verdict(probe('prod/a', 'dev/web')), 'denied');
    assert.equal(expectation.verdict(probe('dev/a', 'dev/web')), 'allowed');
    assert.equal(expectation.verdict(probe('dev/bad', 'dev/web')), 'denied');
    assert.equal(expectation.verdict(probe('outside', 'dev/web')), 'denied');
    assert.equal(read('default: deny').verdict(probe('a/b', 'c/d')), 'denied');
    assert.equal(read('').verdict(probe('a/b', 'c/d')), 'allowed');
  });

  it('tells ports, protocols and families apart', () => {
    const expectation = read(
      'default: deny\nrows:\n  - allow any -> a/b on 80/TCP, 90-91/UDP, SCTP, 7\n  - allow any -> c/d on ICMP over IPv6\n',
    );
    const allowed = (what: string, family: 4 | 6 = 4, to = 'a/b'): boolean =>
      expectation.verdict(probe('x/y', to, what, family)) === 'allowed';
    assert.deepEqual(
      ['80/TCP', '80/UDP', '81/TCP', '90/UDP', '91/UDP', '92/UDP', '89/UDP', '1/SCTP', '65535/SCTP', '7/TCP', '7/UDP', 'ICMP'].filter(
        (what) => allowed(what),
      ),
      ['80/TCP', '90/UDP', '91/UDP', '1/SCTP', '65535/SCTP', '7/TCP', '7/UDP'],
    );
    assert.equal(allowed('ICMP', 6, 'c/d'), true);
    assert.equal(allowed('ICMP', 4, 'c/d'), false);
    assert.equal(allowed('80/TCP', 6, 'c/d'), false);
  });

  it('takes * for any part of a name but the slash, and a dot for itself', () => {
    const expectation = read('default: deny\nrows:\n  - allow */web-* -> node/*, outside.a, far*\n');
    const allowed = (from: string, to: string): boolean => expectation.verdict(probe(from, to)) === 'allowed';
    assert.equal(allowed('dev/web-1', 'node/n1'), true);
    assert.equal(allowed('dev/web', 'node/n1'), false);
    assert.equal(allowed('outside', 'node/n1'), false);
    assert.equal(allowed('dev/web-1', 'outside.a'), true);
    assert.equal(allowed('dev/web-1', 'outsidexa'), false);
    assert.equal(allowed('dev/web-1', 'dev/n1'), false);
    assert.equal(allowed('dev/web-1', 'far-away'), true);
    assert.equal(allowed('dev/web-1', 'far/away'), false);
  });

  it('names file and line of what cannot be read, and says what would be right', () => {
    const rows = 'default: deny\nrows:\n  - allow any -> a/b\n';
    for (const [text, message] of [
      [`${rows}  - alow any -> a/b\n`, /expect\.yaml:4: rows\.1: "alow any -> a\/b" is no row/],
      [`${rows}\n  - allow any -> a/b on 80/ICQ\n`, /expect\.yaml:5: rows\.1: "80\/ICQ" is no port/],
      [`${rows}  - allow any -> a/b on 90-80\n`, /expect\.yaml:4: rows\.1: "90-80" is no port/],
      [`${rows}  - allow any -> a/b on 70000\n`, /expect\.yaml:4: rows\.1: "70000" is no port/],
      [`${rows}  - allow Any -> a/b\n`, /expect\.yaml:4: rows\.1: "Any" names nobody/],
      ['default: maybe\n', /expect\.yaml:1: default: /],
      ['rules: []\n', /expect\.yaml:1: .*[Uu]nrecognized key.*rules/],
      ['rows: [\n', /expect\.yaml:2: /],
      ['---\n---\n', /expect\.yaml:1: expected one document, found 2/],
    ] as const) {
      assert.throws(() => read(text), message, text);
    }
    assert.throws(() => read(`${rows}  - nothing\n`), {
      code: 'SCENARIO_EXPECTATION',
      exitStatus: 2,
      hint: /A row is: allow\|deny SOURCES -> DESTINATIONS/,
    });
  });

  it('notices a name that nobody has', () => {
    const expectation = read('rows:\n  - allow any -> dev/*\n  - deny dev/webb -> any\n');
    expectation.check(['dev/a', 'dev/webb']);
    assert.throws(() => expectation.check(['dev/a', 'dev/web']), /expect\.yaml:3: dev\/webb is nobody in this step/);
    assert.throws(() => expectation.check(['prod/a', 'dev2/webb']), /expect\.yaml:2: dev\/\* is nobody in this step/);
  });
});
