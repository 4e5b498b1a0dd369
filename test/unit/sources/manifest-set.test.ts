import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { Sharing } from '../../../src/kubernetes/sharing.ts';
import { readManifest } from '../../../src/sources/manifest.ts';
import { ManifestSet } from '../../../src/sources/manifest-set.ts';
import { documents, namespaceYaml, podYaml, policyYaml, Recorder } from './manifests.ts';

/** A set whose changes are recorded, and whose files are texts. */
class Files {
  readonly recorder = new Recorder();
  readonly #set = new ManifestSet();

  /** Puts these texts (undefined: the file goes; null: it cannot be read), and commits; returns the events. */
  write(files: Readonly<Record<string, string | undefined | null>>): string[] {
    for (const [path, text] of Object.entries(files)) {
      if (text === undefined) this.#set.remove(path);
      else if (text === null) this.#set.fail(path, 'FILE_UNREADABLE', 'the file cannot be read');
      else this.#set.put(path, readManifest(path, text, SHARING));
    }
    const { events, problems } = this.#set.commit();
    for (const [origin, list] of problems) this.recorder.problems(origin, list);
    const batches = this.recorder.batches.length;
    if (events.length > 0) this.recorder.events(events);
    return this.recorder.batches[batches] ?? [];
  }

  labelOf(pod: string): string | undefined {
    const object = this.recorder.objects.get(`Pod dev/${pod}`) as { labels: Map<string, string> } | undefined;
    return object?.labels.get('app');
  }

  message(): string {
    return [...this.recorder.wrong.values()]
      .flat()
      .map(({ message }) => message)
      .join('\n');
  }
}

const SHARING = new Sharing();
const BROKEN = 'kind: [\n';

describe('a set of manifest files', () => {
  it('emits namespaces before pods before policies, and deletes the other way round', () => {
    const files = new Files();
    const text = documents(policyYaml('p'), podYaml('b'), podYaml('a'), namespaceYaml('dev'));
    assert.deepEqual(files.write({ 'a.yaml': text }), [
      'upsert Namespace dev',
      'upsert Pod dev/a',
      'upsert Pod dev/b',
      'upsert NetworkPolicy dev/p',
    ]);
    assert.deepEqual(files.write({ 'a.yaml': undefined }), [
      'delete NetworkPolicy dev/p',
      'delete Pod dev/b',
      'delete Pod dev/a',
      'delete Namespace dev',
    ]);
  });

  it('emits only what policy sees differently', () => {
    const files = new Files();
    files.write({ 'a.yaml': documents(podYaml('a'), podYaml('b')) });
    assert.deepEqual(files.write({ 'a.yaml': documents('# moved\n', podYaml('b'), `${podYaml('a')}spec: {serviceAccountName: x}\n`) }), []);
    assert.deepEqual(files.write({ 'a.yaml': documents(podYaml('a'), podYaml('b', '{app: api}')) }), ['upsert Pod dev/b']);
  });

  it('hands an object on from file to file without a word', () => {
    const files = new Files();
    files.write({ 'a.yaml': podYaml('web') });
    assert.deepEqual(files.write({ 'a.yaml': undefined, 'b.yaml': podYaml('web') }), []);
  });

  describe('with one object in two files', () => {
    it('goes by the first in the order of paths, whichever came first', () => {
      const files = new Files();
      files.write({ 'b.yaml': podYaml('web', '{app: second}') });
      assert.deepEqual(files.write({ 'a.yaml': podYaml('web', '{app: first}') }), ['upsert Pod dev/web']);
      assert.equal(files.labelOf('web'), 'first');
      assert.deepEqual(files.recorder.problemTexts(), ['b.yaml:1 error OBJECT_REPEATED']);
      assert.match(files.message(), /also in a\.yaml:1, which counts; here it says something else/u);
    });

    it('lets the other take over when the first goes', () => {
      const files = new Files();
      files.write({ 'a.yaml': podYaml('web', '{app: first}'), 'b.yaml': podYaml('web', '{app: second}') });
      assert.deepEqual(files.write({ 'a.yaml': undefined }), ['upsert Pod dev/web']);
      assert.equal(files.labelOf('web'), 'second');
      assert.deepEqual(files.recorder.problemTexts(), []);
    });

    it('says nothing worse than a warning where both say the same', () => {
      const files = new Files();
      files.write({ 'a.yaml': podYaml('web'), 'b/c.yaml': podYaml('web') });
      assert.deepEqual(files.recorder.problemTexts(), ['b/c.yaml:1 warning OBJECT_REPEATED']);
    });

    it('treats two documents of one file alike', () => {
      const files = new Files();
      files.write({ 'a.yaml': documents(podYaml('web', '{app: first}'), podYaml('web', '{app: second}')) });
      assert.equal(files.labelOf('web'), 'first');
      assert.deepEqual(files.recorder.problemTexts(), ['a.yaml#2:8 error OBJECT_REPEATED']);
    });
  });

  describe('with something that cannot be read', () => {
    it('keeps what a broken file said, until it is mended', () => {
      const files = new Files();
      files.write({ 'a.yaml': documents(podYaml('a'), podYaml('b')) });
      assert.deepEqual(files.write({ 'a.yaml': BROKEN }), []);
      assert.match(files.message(), /last good state stays in force \(Pod dev\/a, Pod dev\/b\)/u);
      assert.deepEqual(files.write({ 'a.yaml': podYaml('b', '{app: mended}') }), ['upsert Pod dev/b', 'delete Pod dev/a']);
      assert.deepEqual(files.recorder.problemTexts(), []);
    });

    it('keeps it through any number of broken versions', () => {
      const files = new Files();
      files.write({ 'a.yaml': podYaml('a') });
      for (const text of [BROKEN, null, 'text\n', null, podYaml('a', '{app: 1}'), BROKEN])
        assert.deepEqual(files.write({ 'a.yaml': text }), []);
      assert.deepEqual(files.recorder.names(), ['Pod dev/a']);
    });

    it('takes the other documents, and keeps every object that the broken one may have been', () => {
      const files = new Files();
      files.write({ 'a.yaml': documents(podYaml('a'), podYaml('b'), podYaml('c')) });
      assert.deepEqual(files.write({ 'a.yaml': documents(podYaml('a', '{app: new}'), BROKEN) }), ['upsert Pod dev/a']);
      assert.deepEqual(files.recorder.names(), ['Pod dev/a', 'Pod dev/b', 'Pod dev/c']);
      assert.match(files.message(), /\(Pod dev\/b, Pod dev\/c\)/u);
    });

    it('keeps only the object that is refused, where it is known which', () => {
      const files = new Files();
      files.write({ 'a.yaml': documents(podYaml('a', '{app: good}'), podYaml('b')) });
      assert.deepEqual(files.write({ 'a.yaml': podYaml('a', '{app: y}') }), ['delete Pod dev/b']);
      assert.equal(files.labelOf('a'), 'good');
      assert.match(files.message(), /its last good state stays in force/u);
    });

    it('has nothing in force that was never good', () => {
      const files = new Files();
      assert.deepEqual(files.write({ 'a.yaml': podYaml('a', '{app: y}') }), []);
      assert.match(files.message(), /nothing of it is in force/u);
    });

    it('forgets what was good when the file goes', () => {
      const files = new Files();
      files.write({ 'a.yaml': podYaml('a') });
      files.write({ 'a.yaml': BROKEN });
      assert.deepEqual(files.write({ 'a.yaml': undefined }), ['delete Pod dev/a']);
      assert.deepEqual(files.write({ 'a.yaml': BROKEN }), []);
      assert.deepEqual(files.recorder.names(), []);
    });
  });

  it('passes each further kind over with one notice, in the first file that has it', () => {
    const files = new Files();
    const deployment = 'apiVersion: apps/v1\nkind: Deployment\n';
    files.write({ 'b.yaml': documents(deployment, deployment), 'c.yaml': documents(deployment, 'apiVersion: v1\nkind: Service\n') });
    assert.deepEqual(files.recorder.problemTexts(), ['b.yaml#1:1 notice KIND_PASSED_OVER', 'c.yaml#2:4 notice KIND_PASSED_OVER']);
    files.write({ 'a.yaml': deployment });
    assert.deepEqual(files.recorder.problemTexts(), ['a.yaml:1 notice KIND_PASSED_OVER', 'c.yaml#2:4 notice KIND_PASSED_OVER']);
  });

  it('says a problem once, and again only when it changes', () => {
    const said: string[] = [];
    const set = new ManifestSet();
    const commit = (text: string): void => {
      set.put('a.yaml', readManifest('a.yaml', text, SHARING));
      for (const [origin, list] of set.commit().problems) said.push(`${origin} ${list.length}`);
    };
    commit(policyYaml('p', 'x'));
    commit(policyYaml('p', 'x'));
    commit(policyYaml('p'));
    commit(policyYaml('p'));
    assert.deepEqual(said, ['a.yaml 1', 'a.yaml 0']);
  });

  it('equals a fresh one after any history, once the files are whole', () => {
    const path = fc.constantFrom('a.yaml', 'b.yaml', 'sub/a.json');
    const document = fc.oneof(
      fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('{app: x}', '{app: z}')).map(([name, labels]) => podYaml(name, labels)),
      fc.tuple(fc.constantFrom('p', 'q'), fc.constantFrom('10.0.0.0/8', '10.0.0.0/99')).map(([name, cidr]) => policyYaml(name, cidr)),
      fc.constant(namespaceYaml('dev')),
      fc.constant('apiVersion: apps/v1\nkind: Deployment\n'),
    );
    const whole = fc.array(document, { maxLength: 4 }).map((texts) => documents(...texts));
    const broken = fc.oneof(
      fc.constant(null),
      fc.constant(BROKEN),
      whole.map((text) => documents(text, BROKEN)),
      whole.map((text) => documents(podYaml('a', '{app: y}'), text)),
    );
    const history = fc.array(fc.dictionary(path, fc.oneof(whole, broken, fc.constant(undefined)), { maxKeys: 3 }), { maxLength: 8 });
    const last = fc.record({
      'a.yaml': fc.option(whole, { nil: undefined }),
      'b.yaml': whole,
      'sub/a.json': fc.option(whole, { nil: undefined }),
    });
    fc.assert(
      fc.property(history, last, (edits, final) => {
        const lived = new Files();
        for (const edit of edits) lived.write(edit);
        lived.write(final);
        const fresh = new Files();
        fresh.write(final);
        assert.deepEqual(lived.recorder.objects, fresh.recorder.objects);
        assert.deepEqual(lived.recorder.wrong, fresh.recorder.wrong);
      }),
      { numRuns: 150 },
    );
  });
});
