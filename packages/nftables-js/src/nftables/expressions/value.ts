/** Values inside expressions and elements (enum nft_data_attributes). */
import { type Attribute, type MessageWriter, required } from '../../netlink/attributes.ts';

const NFTA_DATA_VALUE = 1;

export function writeValue(writer: MessageWriter, attribute: number, value: Uint8Array): void {
  const nest = writer.beginNested(attribute);
  writer.data(NFTA_DATA_VALUE, value);
  writer.endNested(nest);
}

/** @throws MalformedError */
export function readValue(attribute: Attribute): Uint8Array {
  return required(attribute.nested(), NFTA_DATA_VALUE, 'a value').bytes();
}
