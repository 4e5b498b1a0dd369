import assert from 'node:assert/strict';
import { project } from '../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../src/kubernetes/sharing.ts';

function read(metadata: unknown): { labels: object | undefined; key: string | undefined; faults: string[] } {
  const { object, key, problems } = project('Namespace', { metadata }, new Sharing());
  return { labels: object && Object.fromEntries(object.labels), key, faults: problems.map(({ path, code }) => `${path} ${code}`) };
}

describe('a Namespace of the API', () => {
  it('gets its name as a label where that is missing', () => {
    assert.deepEqual(read({ name: 'dev', labels: { stage: 'dev' } }), {
      labels: { stage: 'dev', 'kubernetes.io/metadata.name': 'dev' },
      key: 'dev',
      faults: [],
    });
    assert.deepEqual(read({ name: 'dev' }).labels, { 'kubernetes.io/metadata.name': 'dev' });
  });

  it('cannot pass itself off as another one', () => {
    assert.deepEqual(read({ name: 'dev', labels: { 'kubernetes.io/metadata.name': 'prod' } }), {
      labels: { 'kubernetes.io/metadata.name': 'dev' },
      key: 'dev',
      faults: ['metadata.labels[kubernetes.io/metadata.name] LABEL_RESERVED'],
    });
  });

  it('is refused, and known by its name, where its labels cannot be read', () => {
    assert.deepEqual(read({ name: 'dev', labels: 'stage=dev' }), {
      labels: undefined,
      key: 'dev',
      faults: ['metadata.labels TYPE_INVALID'],
    });
  });

  function modeOf(metadata: object): unknown {
    const { object, problems } = project('Namespace', { metadata: { name: 'dev', ...metadata } }, new Sharing());
    return [object?.mode, ...problems.map(({ path, code }) => `${path} ${code}`)];
  }

  it('says by an annotation whether it is to be audited', () => {
    const annotated = (mode: unknown): unknown => modeOf({ annotations: { 'example.com/other': 'x', 'sluice.dev/mode': mode } });
    assert.deepEqual(annotated('audit'), ['audit']);
    assert.deepEqual(annotated('enforce'), ['enforce']);
    assert.deepEqual(modeOf({}), [undefined]);
    assert.deepEqual(modeOf({ annotations: null }), [undefined]);
    assert.deepEqual(modeOf({ annotations: { 'example.com/other': 'audit' } }), [undefined]);
    // A label is none: labels are what policies of others select by.
    assert.deepEqual(modeOf({ labels: { 'sluice.dev/mode': 'audit' } }), [undefined]);
  });

  it('asks for nothing where its mode cannot be read, and stands', () => {
    const fault = 'metadata.annotations[sluice.dev/mode] NAMESPACE_MODE_UNKNOWN';
    for (const mode of ['Audit', 'off', '', ' audit', null, true, ['audit'], { mode: 'audit' }])
      assert.deepEqual(modeOf({ annotations: { 'sluice.dev/mode': mode } }), [undefined, fault], JSON.stringify(mode));
    assert.deepEqual(modeOf({ annotations: 'sluice.dev/mode=audit' }), [undefined, 'metadata.annotations TYPE_INVALID']);
    assert.equal(read({ name: 'dev', annotations: ['audit'] }).key, 'dev');
    assert.notEqual(read({ name: 'dev', annotations: ['audit'] }).labels, undefined);
  });

  it('is in no namespace', () => {
    assert.equal(read({ name: 'dev', namespace: 'prod' }).key, 'dev');
  });
});
