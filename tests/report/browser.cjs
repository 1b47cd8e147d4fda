// Drives a real Chromium over report pages and prints what it saw as one JSON object; test_browser.py judges it.
// Usage: FINGERPOST_PLAYWRIGHT=…/node_modules node browser.cjs CHROMIUM PROFILE_FOLDER PAGE HOSTILE_PAGE
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { chromium } = require(path.join(process.env.FINGERPOST_PLAYWRIGHT, "playwright-core"));

const [executablePath, profile, pagePath, hostilePath] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
args.push("--disable-component-update", "--disable-sync");
const seen = { complaints: [], requests: [] };

const measured = (page) => page.$$eval("#claims tbody tr td.measured", (cells) => cells.map((cell) => Number(cell.dataset.value)));
const sortState = (page) => page.$$eval("#claims th", (heads) => heads.map((head) => head.getAttribute("aria-sort")));
const shown = (page) => page.$$eval("#claims tbody tr", (rows) => rows.filter((row) => row.checkVisibility()).length);
const status = (page) => page.textContent("#filter-status");

async function open(context, file) {
  const page = await context.newPage();
  page.on("console", (message) => seen.complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.complaints.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => seen.complaints.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
  page.on("request", (request) => seen.requests.push(request.url().slice(0, 200)));
  await page.goto(pathToFileURL(file).href);
  await page.waitForFunction(() => document.documentElement.classList.contains("scripted"));
  return page;
}

async function sorting(page) {
  const result = { before: await measured(page) };
  await page.click("#claims th.measured .sort");
  Object.assign(result, { ascending: await measured(page), ascendingState: await sortState(page) });
  await page.click("#claims th.measured .sort");
  Object.assign(result, { descending: await measured(page), descendingState: await sortState(page) });
  return result;
}

async function keyboard(page) {
  await page.reload();
  const visited = [];
  for (let press = 0; press < 60; press += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const element = document.activeElement;
      const ring = getComputedStyle(element).outlineStyle;
      return { id: element.id, name: element.textContent.trim(), head: element.closest("#claims th")?.className, ring };
    });
    visited.push(at);
    if (at.head === "measured") break;
  }
  await page.keyboard.press("Enter");
  const ascending = await measured(page);
  await page.keyboard.press("Space");
  return { visited, ascending, descending: await measured(page), state: await sortState(page) };
}

async function filtering(page) {
  const result = {};
  await page.fill("#filter-text", "EP-digits   percent");
  Object.assign(result, { words: await shown(page), wordsStatus: await status(page) });
  await page.fill("#filter-text", "no such words");
  Object.assign(result, { none: await shown(page) });
  await page.fill("#filter-text", "");
  await page.check("input[value=no]");
  Object.assign(result, { no: await shown(page), noStatus: await status(page) });
  await page.check("input[value=yes]");
  Object.assign(result, { yes: await shown(page) });
  await page.check("input[value=all]");
  await page.focus("#filter-text");
  await page.keyboard.press("Enter");
  return { ...result, all: await shown(page), stayed: page.url().endsWith(".html") };
}

// WCAG contrast of text against the nearest opaque background, the least over all elements with words of their own.
const leastContrast = () => {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return light(colour);
    }
    return 1;
  };
  const texts = [...document.body.querySelectorAll("*")].filter((element) => {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    return own && element.checkVisibility() && !["SCRIPT", "NOSCRIPT"].includes(element.tagName);
  });
  const worst = { ratio: 21, where: "" };
  for (const element of texts) {
    const [a, b] = [light(channels(getComputedStyle(element).color)), behind(element)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst.ratio) Object.assign(worst, { ratio, where: `${element.tagName}.${element.className}` });
  }
  return { ...worst, count: texts.length };
};

const background = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const inked = (page) =>
  page.$$eval(".canvas canvas", (canvases) =>
    canvases.map((canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const colours = new Set();
      for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 250) colours.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
      return [...colours].sort().join(" ");
    }),
  );

async function themes(page) {
  await page.emulateMedia({ colorScheme: "light" });
  const light = { background: await background(page), ink: await inked(page), contrast: await page.evaluate(leastContrast) };
  await page.click("#theme");
  const pressed = await page.getAttribute("#theme", "aria-pressed");
  await page.waitForTimeout(100);
  const dark = { background: await background(page), ink: await inked(page), contrast: await page.evaluate(leastContrast) };
  await page.reload();
  const remembered = await background(page);
  await page.click("#theme");
  return { light, dark, pressed, remembered, back: await background(page) };
}

async function systemTheme(context) {
  const page = await open(context, pagePath);
  await page.evaluate(() => localStorage.clear());
  await page.emulateMedia({ colorScheme: "dark" });
  await page.reload();
  const dark = await background(page);
  await page.emulateMedia({ colorScheme: "light" });
  return { dark, light: await background(page) };
}

async function download(page, selector) {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(selector)]);
  return { name: file.suggestedFilename(), text: fs.readFileSync(await file.path(), "utf-8") };
}

async function widths(page) {
  const result = {};
  for (const width of [400, 800, 1400]) {
    await page.setViewportSize({ width, height: 900 });
    await page.waitForTimeout(150);
    result[width] = await page.evaluate(() => ({
      page: document.documentElement.scrollWidth,
      canvas: document.querySelector(".canvas canvas").getBoundingClientRect().right,
    }));
  }
  return result;
}

async function printing(page) {
  const closed = () => page.$$eval("details", (all) => all.filter((details) => !details.open).length);
  const before = await closed();
  const pdf = await page.pdf({ printBackground: true, preferCSSPageSize: true });
  const pages = (pdf.toString("latin1").match(/\/Type \/Page\b/g) || []).length;
  await page.emulateMedia({ media: "print" });
  await page.evaluate(() => window.dispatchEvent(new Event("beforeprint")));
  const controls = await page.$$eval("button:not(.sort), input, nav", (all) => all.filter((one) => one.checkVisibility()).length);
  const hidden = await page.$$eval("dd", (all) => all.filter((one) => !one.checkVisibility()).length);
  await page.evaluate(() => window.dispatchEvent(new Event("afterprint")));
  await page.emulateMedia({ media: "screen" });
  return { pages, controls, hidden, before, after: await closed() };
}

async function main() {
  const context = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
  const page = await open(context, pagePath);
  seen.figures = await page.$$eval("main img", (all) => all.map((image) => image.complete && image.naturalWidth));
  seen.sorting = await sorting(page);
  seen.keyboard = await keyboard(page);
  seen.filtering = await filtering(page);
  seen.themes = await themes(page);
  seen.csv = await download(page, ".table-block .button");
  seen.svg = await download(page, "figure[data-name] .button");
  seen.widths = await widths(page);
  seen.printing = await printing(page);
  seen.systemTheme = await systemTheme(context);
  const hostile = await open(context, hostilePath);
  await hostile.click("#claims th.claim .sort");
  seen.hostile = await hostile.evaluate(() => ({
    canvases: document.querySelectorAll(".canvas canvas").length,
    strangers: document.querySelectorAll("main script:not([type]), iframe, object, embed, [onerror], [onclick]").length,
    legend: [...document.querySelectorAll(".u-legend .u-label")].map((label) => label.textContent),
  }));
  await context.close();
  process.stdout.write(JSON.stringify(seen));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
