/** A real browser: the site's own page, and the control page beside it. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chromiumPath, requires } from "../support/requires.ts";
import { type Served, serve } from "../support/serve.ts";

/** `PICTURES=docs/pictures` keeps the screenshots; without it they go nowhere. */
const kept = process.env["PICTURES"];
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const pictures = kept ? join(ROOT, kept) : mkdtempSync(join(tmpdir(), "sojourn-pictures-"));

describe.skipIf(requires("chromium"))("Chromium", () => {
  let browser: Browser;
  let server: Served;

  beforeAll(async () => {
    const { chromium } = await import("playwright-core");
    mkdirSync(pictures, { recursive: true });
    server = await serve();
    browser = await chromium.launch({
      executablePath: chromiumPath() as string,
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
      ],
    });
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    if (!kept) rmSync(pictures, { recursive: true, force: true });
    expect(await server?.stop()).toMatchObject({ code: 0, err: "" });
  }, 60_000);

  /** A page whose errors and failed requests are collected. */
  async function open(url: string, size = { width: 1100, height: 900 }): Promise<{ page: Page; complaints: string[] }> {
    const page = await browser.newPage({ viewport: size, colorScheme: "light" });
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("console", (message) => {
      // Browsers ask for an icon where a page names none.
      if (message.location().url.endsWith("/favicon.ico")) return;
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    page.on("requestfailed", (request) => complaints.push(`${request.url()} ${request.failure()?.errorText}`));
    await page.goto(url);
    return { page, complaints };
  }

  async function shoot(page: Page, name: string, fullPage = false): Promise<void> {
    const path = join(pictures, `${name}.png`);
    await page.screenshot({ path, fullPage });
    expect(existsSync(path)).toBe(true);
  }

  it("loads / and fills its journey in from what the browser was told", async () => {
    const { page, complaints } = await open(`${server.site}/`);
    expect(await page.title()).toBe("sojourn");
    await expect.poll(() => page.locator("#known").textContent()).toMatch(/first byte came [\d.]+ ms after/);
    const rows = await page.locator("#journey tr").allTextContents();
    for (const stage of ["syn-queue", "accept-queue", "receive-queue", "parse", "route", "process"]) {
      expect(rows.some((row) => row.startsWith(stage) && /[\d.]+ ms/.test(row))).toBe(true);
    }
    await shoot(page, "site", true);
    await page.getByRole("link", { name: "/about" }).click();
    await expect.poll(() => page.locator("body").textContent()).toContain("a complete network server stack");
    expect(complaints).toEqual([]);
    await page.close();
    await server.journey((j) => j.request?.target === "/" && j.response?.status === 200);
  });

  it("shows journeys live on the control page, and pauses accept there", async () => {
    const { page, complaints } = await open(`${server.control}/#token=${server.token}`);
    await expect.poll(() => page.locator("#state").textContent()).toBe("live");
    // The token is out of the address at once: it must not land in a picture or the history.
    expect(page.url()).not.toContain(server.token);
    for (const path of ["/hello", "/bytes/300000", "/slow?ms=40", "/details"])
      await (await fetch(server.site + path)).text();
    await expect.poll(() => page.locator("#journeys li").first().textContent()).toContain("GET /details");
    const first = page.locator("#journeys li").first();
    await first.locator("summary").click();
    expect(await first.locator("table tr").count()).toBeGreaterThan(8);
    await shoot(page, "control");
    await page.getByRole("button", { name: "Pause accept()" }).click();
    await expect.poll(() => page.getByRole("button", { name: "Resume accept()" }).count()).toBe(1);
    expect((await server.get<{ acceptPaused: boolean }>("/api/info")).acceptPaused).toBe(true);
    await page.getByRole("button", { name: "Resume accept()" }).click();
    await expect.poll(async () => (await server.get<{ acceptPaused: boolean }>("/api/info")).acceptPaused).toBe(false);
    expect(complaints).toEqual([]);
    await page.close();
  });

  it("fits a telephone", async () => {
    for (const url of [`${server.site}/`, `${server.control}/`]) {
      const { page } = await open(url, { width: 390, height: 800 });
      await page.waitForTimeout(300);
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(390);
      await page.close();
    }
  });
});
