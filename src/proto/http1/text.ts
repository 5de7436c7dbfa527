/** Text out of and into bytes, one byte per character (latin-1), for HTTP heads. */
import { LOWER } from "./tables.ts";

/** The bytes [at,end) as text. */
export function latin1(bytes: Uint8Array, at: number, end: number): string {
  let text = "";
  let i = at;
  for (; i + 8 <= end; i += 8) {
    text += String.fromCharCode(
      bytes[i],
      bytes[i + 1],
      bytes[i + 2],
      bytes[i + 3],
      bytes[i + 4],
      bytes[i + 5],
      bytes[i + 6],
      bytes[i + 7],
    );
  }
  for (; i < end; i++) text += String.fromCharCode(bytes[i]);
  return text;
}

/** The bytes of ASCII or latin-1 text. */
export function latin1Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** True if the bytes [at,end) are `lower` (ASCII, already in lower case) in any case. */
export function equalsIgnoreCase(bytes: Uint8Array, at: number, end: number, lower: string): boolean {
  if (end - at !== lower.length) return false;
  for (let i = 0; i < lower.length; i++) {
    if (LOWER[bytes[at + i]] !== lower.charCodeAt(i)) return false;
  }
  return true;
}
