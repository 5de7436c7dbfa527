/** Where `site-process` is, in source and in built form. */
export function siteProcessModule(): URL {
  const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
  return new URL(`./site-process${extension}`, import.meta.url);
}
