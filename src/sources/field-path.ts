/** Field paths as the API writes them: `spec.ingress[0].ports`, `metadata.labels[app.kubernetes.io/name]`. */
export type PathSegment = string;

/** The names and indexes of a path, in order. `''` is the object itself. */
export function parsePath(path: string): PathSegment[] {
  const segments: PathSegment[] = [];
  for (const [, bracketed, name] of path.matchAll(/\[([^\]]*)\]|([^.[\]]+)/gu)) {
    const segment = bracketed ?? name;
    if (segment !== undefined) segments.push(segment);
  }
  return segments;
}

/** `child` within `parent`, either of which may be the object itself. */
export function joinPaths(parent: string, child: string): string {
  if (parent === '' || child === '') return parent + child;
  return child.startsWith('[') ? parent + child : `${parent}.${child}`;
}
