/**
 * Byte tables of HTTP/1.1: which byte may stand where. Constant; one look-up per byte, no regular expression.
 *
 * Sources: RFC 9110 §5.6.2 (token), §5.5 (field value), RFC 9112 §3.2 (request target), RFC 3986 §3.2.2 (host).
 */

export const HTAB = 0x09;
export const LF = 0x0a;
export const CR = 0x0d;
export const SP = 0x20;
export const DQUOTE = 0x22;
export const HASH = 0x23;
export const ASTERISK = 0x2a;
export const COMMA = 0x2c;
export const SLASH = 0x2f;
export const ZERO = 0x30;
export const COLON = 0x3a;
export const SEMICOLON = 0x3b;
export const EQUALS = 0x3d;
export const QUESTION = 0x3f;
export const AT = 0x40;
export const BACKSLASH = 0x5c;

function tableOf(allowed: (byte: number) => boolean): Uint8Array {
  const table = new Uint8Array(256);
  for (let byte = 0; byte < 256; byte++) table[byte] = allowed(byte) ? 1 : 0;
  return table;
}

function isAlphaNumeric(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);
}

function among(characters: string): (byte: number) => boolean {
  return (byte) => characters.includes(String.fromCharCode(byte));
}

const isTokenMark = among("!#$%&'*+-.^_`|~");
const isHostMark = among("-._~!$&'()*+,;=%:[]");

/** tchar: methods, field names, transfer codings, chunk extension names. RFC 9110 §5.6.2. */
export const TOKEN = tableOf((byte) => isAlphaNumeric(byte) || isTokenMark(byte));

/** field-vchar, SP and HTAB, obs-text included: every other control character is refused. RFC 9110 §5.5. */
export const FIELD_VALUE = tableOf((byte) => byte === HTAB || (byte >= SP && byte !== 0x7f));

/**
 * What a request target may hold: visible ASCII without "#" (a fragment is never sent, RFC 9112 §3.2).
 * The few other characters RFC 3986 excludes (`"<>\^`{|}`) are let through, as every browser sends some of them.
 */
export const TARGET = tableOf((byte) => byte > SP && byte < 0x7f && byte !== HASH);

/** reg-name, IP literal and port: RFC 3986 §3.2.2. */
export const HOST = tableOf((byte) => isAlphaNumeric(byte) || isHostMark(byte));

/** Value of a hexadecimal digit, or -1. */
export const HEX = new Int8Array(256).fill(-1);
for (let digit = 0; digit < 16; digit++) {
  const text = digit.toString(16);
  HEX[text.charCodeAt(0)] = digit;
  HEX[text.toUpperCase().charCodeAt(0)] = digit;
}

/** ASCII lower case; other bytes as they are. */
export const LOWER = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) LOWER[byte] = byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte;
