/** Numbers out of requests, with an answer for the client when they are none. */
import { RequestError } from "../../src/server/index.ts";

/** `text` as a whole number from 0 to `max`; `undefined` gives `fallback`. Throws `RequestError` 400. */
export function wholeNumber(name: string, text: string | undefined, max: number, fallback?: number): number {
  if (text === undefined && fallback !== undefined) return fallback;
  const value = text !== undefined && /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max)) {
    throw new RequestError(400, `${name} must be a whole number from 0 to ${max}, not ${JSON.stringify(text ?? "")}`);
  }
  return value;
}
