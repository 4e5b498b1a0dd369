/** Colour where there is a terminal to show it, and where nobody objects (NO_COLOR, FORCE_COLOR: as Node decides for the stream). */
import { styleText } from 'node:util';

export type Style = 'green' | 'red' | 'yellow' | 'dim' | 'bold';
export type Paint = (style: Style, text: string) => string;

/** For text that goes to this stream. */
export function paintFor(stream: NodeJS.WriteStream): Paint {
  return (style, text) => styleText(style, text, { stream });
}

/** Text as it is. */
export const plain: Paint = (_style, text) => text;
