import assert from 'node:assert/strict';
import { NamespaceModes } from '../../../src/observability/namespace-modes.ts';
import type { Auditing } from '../../../src/policy/mode.ts';
import type { SourceEvent } from '../../../src/sources/source.ts';
import { upsertOf } from '../../random/events.ts';

function namespace(name: string, mode?: string): SourceEvent {
  const annotations = mode === undefined ? {} : { 'sluice.dev/mode': mode };
  return upsertOf({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, annotations } });
}

function setUp(auditing: Auditing): { said: string[]; modes: NamespaceModes } {
  const said: string[] = [];
  const line =
    (level: string) =>
    (fields: unknown): void =>
      void said.push(`${level} ${JSON.stringify(fields)}`);
  const modes = new NamespaceModes({
    auditing,
    log: { info: line('info'), warn: line('warn') },
    problems: (origin, problems) =>
      said.push(`${origin}: ${problems.map(({ severity, code, path }) => `${severity} ${code} ${path}`).join()}`),
  });
  return { said, modes };
}

describe('what is said of namespaces that ask to be audited', () => {
  it('is a warning where they may, once, and when it is over', () => {
    const { said, modes } = setUp({ mode: 'enforce', namespaces: true });
    modes.events([namespace('dev', 'audit'), namespace('prod'), { type: 'synced' }]);
    modes.events([namespace('dev', 'audit')]);
    modes.events([namespace('dev', 'enforce')]);
    modes.events([namespace('dev', 'audit'), { type: 'delete', kind: 'Namespace', key: 'dev' }]);
    const begins = 'warn {"namespace":"dev","code":"NAMESPACE_AUDITED"}';
    const ends = 'info {"namespace":"dev"}';
    assert.deepEqual(said, [begins, ends, begins, ends]);
  });

  it('is a problem of theirs where they may not, until they no longer ask', () => {
    const { said, modes } = setUp({ mode: 'enforce', namespaces: false });
    modes.events([namespace('dev', 'audit'), namespace('prod', 'enforce')]);
    modes.events([namespace('dev', 'audit')]);
    modes.events([namespace('dev')]);
    const origin = 'sluice.dev/mode of Namespace dev';
    assert.deepEqual(said, [`${origin}: warning NAMESPACE_MODE_NOT_ALLOWED metadata.annotations[sluice.dev/mode]`, `${origin}: `]);
  });

  it('is nothing where the agent enforces nothing at all', () => {
    const { said, modes } = setUp({ mode: 'audit', namespaces: false });
    modes.events([namespace('dev', 'audit')]);
    assert.deepEqual(said, []);
  });
});
