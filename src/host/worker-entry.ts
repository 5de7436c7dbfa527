/** The URL of a worker's entry module beside this file, in source (`.ts`) and built (`.js`) form. */
export function workerEntry(name: string): URL {
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  return new URL(`./${name}${extension}`, import.meta.url);
}
