/** The URL of a module beside this file that a thread imports, in source (`.ts`) and built (`.js`) form. */
export function moduleUrl(name: string): URL {
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  return new URL(`./${name}${extension}`, import.meta.url);
}
