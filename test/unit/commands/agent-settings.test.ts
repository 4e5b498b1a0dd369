import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { readSettings } from '../../../src/commands/agent-settings.ts';
import { SluiceError } from '../../../src/errors.ts';

describe('settings of the agent', () => {
  let directory: string;
  let file: string;

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    file = join(directory, 'sluice.yaml');
  });
  after(() => rmSync(directory, { recursive: true }));

  function refused(given: Readonly<Record<string, unknown>>, environment: Record<string, string>, text: string): SluiceError {
    writeFileSync(file, text);
    try {
      readSettings(given, environment, file);
    } catch (error) {
      assert.ok(error instanceof SluiceError);
      assert.equal(error.exitStatus, 2);
      return error;
    }
    return assert.fail('nothing was refused');
  }

  it('are those of the flag, then of the environment, then of the file, then the default', () => {
    writeFileSync(file, 'logGroup: 1\ncutMark: 0x2000\nlogLevel: warn\nnode: of-file\n');
    const environment = { SLUICE_LOG_GROUP: '2', SLUICE_CUT_MARK: '0x4000', NODE_NAME: 'of-environment' };
    const { settings, text } = readSettings({ logGroup: '3' }, environment, file);
    assert.equal(settings.logGroup, 3);
    assert.equal(settings.cutMark, 0x4000);
    assert.equal(settings.logLevel, 'warn');
    assert.equal(settings.node, 'of-environment');
    assert.equal(settings.ownership, 'auto');
    assert.match(text, /^logGroup: .*# --log-group$/m);
    assert.match(text, /^cutMark: .*# \$SLUICE_CUT_MARK$/m);
    assert.match(text, /^logLevel: warn {2}# .*sluice\.yaml: logLevel$/m);
    assert.match(text, /^ownership: auto {2}# default$/m);
  });

  it('printed are a file that says the same', () => {
    const { text, settings } = readSettings({ bridge: ['a', 'b'], node: 'n', metricsAddress: ':1', metricsByRule: true }, {}, undefined);
    writeFileSync(file, text);
    assert.deepEqual(readSettings({}, {}, file).settings, settings);
    assert.equal(typeof parse(text), 'object');
  });

  it('take lists as a list, and as text with commas or blanks', () => {
    for (const bridges of ['a,b', 'a b'])
      assert.deepEqual(readSettings({}, { SLUICE_BRIDGE: bridges }, undefined).settings.bridge, ['a', 'b']);
  });

  it('take addresses of both families, every address, and none', () => {
    const of = (address: string): unknown => readSettings({ metricsAddress: address }, {}, undefined).settings.metricsAddress;
    assert.deepEqual(of('127.0.0.1:9477'), { host: '127.0.0.1', port: 9477 });
    assert.deepEqual(of('[::1]:1'), { host: '::1', port: 1 });
    assert.deepEqual(of(':9477'), { host: '', port: 9477 });
    assert.equal(of('off'), undefined);
  });

  it('that are wrong are refused with their place and what would be right', () => {
    assert.match(refused({ logGroup: '70000' }, {}, '').message, /^--log-group: expected a number from 0 to 65535, not "70000"$/);
    assert.match(refused({}, { SLUICE_LOG_GROUP: 'x' }, '').message, /^\$SLUICE_LOG_GROUP: expected a number/);
    assert.match(refused({}, {}, 'cutMark: 3').message, /sluice\.yaml: cutMark: expected a single bit of 32, such as 0x1000, not 3$/);
    assert.match(refused({}, {}, 'ownership: mine').message, /expected one of auto, owned, shared, not "mine"/);
    assert.match(refused({}, {}, 'metricsAddress: 127.0.0.1').message, /expected an address and a port/);
    assert.match(refused({}, {}, 'bridge: []').message, /at least one name/);
    assert.match(refused({}, {}, '- a\n').message, /expected settings/);
    assert.equal(refused({}, {}, 'logGruop: 1').hint, 'Is logGroup meant?');
    assert.equal(refused({}, {}, '{').code, 'CONFIG_UNREADABLE');
  });

  it('enforce, and let no namespace ask for anything else, unless they say so', () => {
    const of = (given: Readonly<Record<string, unknown>>): unknown => {
      const { mode, auditNamespaces } = readSettings(given, {}, undefined).settings;
      return [mode, auditNamespaces];
    };
    assert.deepEqual(of({}), ['enforce', false]);
    assert.deepEqual(of({ mode: 'audit' }), ['audit', false]);
    assert.deepEqual(of({ auditNamespaces: true }), ['enforce', true]);
    assert.match(refused({ mode: 'off' }, {}, '').message, /^--mode: expected one of enforce, audit, not "off"$/);
    assert.match(
      refused({}, { SLUICE_AUDIT_NAMESPACES: 'dev' }, '').message,
      /^\$SLUICE_AUDIT_NAMESPACES: expected true or false, not "dev"$/,
    );
  });

  it('name one source', () => {
    assert.match(refused({ source: 'x', kubeconfig: 'y' }, {}, '').message, /^--source and --kubeconfig: there is one source/);
    assert.match(refused({ source: 'x', metricsAuthentication: 'token' }, {}, '').message, /tokens are reviewed by an API server/);
  });
});
