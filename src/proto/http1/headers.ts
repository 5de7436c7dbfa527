/**
 * Header fields of a message being made: ordered, case-insensitive, several values per name. A response has few, so
 * look-up is a scan. Names and values are checked on the way in: a line break in one never reaches the wire.
 */
import { FIELD_VALUE, TOKEN } from "./tables.ts";

/** We broke the protocol ourselves (a handler's mistake), as h11 tells it apart from the peer's. */
export class LocalProtocolError extends Error {
  override readonly name = "LocalProtocolError";
}

export class Headers {
  private readonly names: string[] = [];
  private readonly values: string[] = [];

  /** Number of field lines. */
  get count(): number {
    return this.names.length;
  }

  nameAt(i: number): string {
    return this.names[i];
  }

  valueAt(i: number): string {
    return this.values[i];
  }

  /** The values of `name` joined by ", ", or `undefined`. */
  get(name: string): string | undefined {
    let text: string | undefined;
    for (let i = 0; i < this.names.length; i++) {
      if (isSameName(this.names[i], name)) text = text === undefined ? this.values[i] : `${text}, ${this.values[i]}`;
    }
    return text;
  }

  has(name: string): boolean {
    for (const each of this.names) if (isSameName(each, name)) return true;
    return false;
  }

  /** Replaces every value of `name`. Throws `LocalProtocolError` if name or value could not be sent. */
  set(name: string, value: string | number): void {
    this.delete(name);
    this.append(name, value);
  }

  /** Adds a value (Set-Cookie). Throws as `set`. */
  append(name: string, value: string | number): void {
    const text = String(value);
    assertName(name);
    assertValue(name, text);
    this.names.push(name);
    this.values.push(text);
  }

  delete(name: string): void {
    for (let i = this.names.length - 1; i >= 0; i--) {
      if (!isSameName(this.names[i], name)) continue;
      this.names.splice(i, 1);
      this.values.splice(i, 1);
    }
  }

  *[Symbol.iterator](): IterableIterator<[name: string, value: string]> {
    for (let i = 0; i < this.names.length; i++) yield [this.names[i], this.values[i]];
  }
}

/** Mostly it is the very same string, so that nothing is put into lower case. */
function isSameName(a: string, b: string): boolean {
  return a === b || (a.length === b.length && a.toLowerCase() === b.toLowerCase());
}

function assertName(name: string): void {
  let valid = name.length > 0;
  for (let i = 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    valid &&= code < 128 && TOKEN[code] === 1;
  }
  if (!valid) throw new LocalProtocolError(`invalid header name ${JSON.stringify(name)}`);
}

function assertValue(name: string, value: string): void {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code > 255 || FIELD_VALUE[code] === 0) {
      throw new LocalProtocolError(`header ${name} has a character that cannot be sent (code ${code} at ${i})`);
    }
  }
}
