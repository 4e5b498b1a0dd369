/** API objects as a source would emit them: projected one by one, and handed on in pages. */
import { project } from '../src/kubernetes/projections.ts';
import type { Sharing } from '../src/kubernetes/sharing.ts';
import type { SourceEvent } from '../src/sources/source.ts';
import type { ApiObject } from './synthetic-cluster.ts';

/** What clients of the Kubernetes API ask for at a time. */
const PAGE = 500;

export function upsert({ kind, ...object }: ApiObject, sharing: Sharing): SourceEvent {
  const { object: projected, key, problems } = project(kind, object, sharing);
  if (projected === undefined || key === undefined) {
    throw new Error(`the synthetic ${kind} ${object.metadata.name} cannot be read: ${problems.map(({ message }) => message).join('; ')}`);
  }
  // The projection of a kind is an object of that kind.
  return { type: 'upsert', kind, key, object: projected } as SourceEvent;
}

export function* pages(objects: Iterable<ApiObject>, sharing: Sharing): Generator<SourceEvent[]> {
  let page: SourceEvent[] = [];
  for (const object of objects) {
    page.push(upsert(object, sharing));
    if (page.length < PAGE) continue;
    yield page;
    page = [];
  }
  if (page.length > 0) yield page;
}
