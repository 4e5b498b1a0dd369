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

  it('is in no namespace', () => {
    assert.equal(read({ name: 'dev', namespace: 'prod' }).key, 'dev');
  });
});
