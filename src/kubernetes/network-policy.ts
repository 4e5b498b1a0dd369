/**
 * networking.k8s.io/v1 NetworkPolicy: who it is, read here; what it means, read by the policy code. Refused only where its name
 * cannot be read or there is nothing that could be a spec; everything smaller fails closed part by part and stays in force.
 */
import { interpretPolicy } from '../policy/meaning.ts';
import type { Policy } from '../policy/objects.ts';
import { SpecUnreadableError } from '../policy/errors.ts';
import type { Fields } from '../policy/problems.ts';
import { readMetadata, readName, readNamespace } from './metadata.ts';
import { EVERYTHING } from '../policy/selector.ts';
import { faultOf, found, type Report } from './report.ts';
import type { Sharing } from './sharing.ts';

export function projectPolicy(object: Fields, report: Report, sharing: Sharing): Policy | undefined {
  const metadata = readMetadata(object, report);
  const namespace = readNamespace(metadata, report, sharing);
  const name = readName(metadata, report);
  try {
    const policy = interpretPolicy(namespace, name, object['spec']);
    report.problems.pushAll(policy.problems);
    return policy;
  } catch (error) {
    if (error instanceof SpecUnreadableError) {
      report.refuse(error.problem.path, error.problem.code, `expected an object, not ${found(object['spec'])}`);
      return undefined;
    }
    report.leaveOut('spec', 'OBJECT_FAULT', faultOf(error), 'it isolates every pod of its namespace, and admits nothing');
    return { namespace, name, subject: EVERYTHING, ingress: [], egress: [], problems: report.problems.told() };
  }
}
