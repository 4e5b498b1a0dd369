/** Values inside expressions and elements (enum nft_data_attributes). */
import type { Attribute, MessageWriter } from '../../netlink/attributes.ts';
import { MalformedError } from '../../netlink/errors.ts';

const NFTA_DATA_VALUE = 1;

export function writeValue(writer: MessageWriter, attribute: number, value: Uint8Array): void {
  const nest = writer.beginNested(attribute);
  writer.data(NFTA_DATA_VALUE, value);
  writer.endNested(nest);
}

/** A copy. @throws MalformedError */
export function readValue(attribute: Attribute): Uint8Array {
  for (const { type, data } of attribute.list()) if (type === NFTA_DATA_VALUE) return data.slice();
  throw new MalformedError(`a value (in attribute ${attribute.type}) is missing`);
}
