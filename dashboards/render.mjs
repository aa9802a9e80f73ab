// Takes a PNG of the page in headless Chromium; ends with status 1 if a panel has an error or no data.
//   PROMETHEUS=http://127.0.0.1:9090 LOGS=DIR node render.mjs OUT.png 'dashboard=jobs.json&theme=light&from=now-5m&scrape=5s'
// LOGS is a directory of childminder's log files: their lines are shown in place of those of a Loki.
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { extname, join, normalize } from 'node:path';
import puppeteer from 'puppeteer-core';

const [out, query = ''] = process.argv.slice(2);
const prometheus = new URL(process.env.PROMETHEUS ?? 'http://127.0.0.1:9090');
const WIDTH = Number(process.env.WIDTH ?? 1600);
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.json': 'application/json', '.svg': 'image/svg+xml', '.woff2': 'font/woff2' };

function logLines(directory) {
  if (!directory) return [];
  return readdirSync(directory).filter((f) => f.endsWith('.txt')).flatMap((f) => {
    const name = f.replace(/-[^-]*-\d+\.txt$/, '');
    return readFileSync(join(directory, f), 'utf8').split('\n').flatMap((line) => {
      const m = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)\.(\d{3})\d* \[[^\]]*\]\([^)]*\): (.*)$/.exec(line);
      return m ? [{ at: Date.UTC(+m[1], +m[2] - 1, +m[3], +m[4], +m[5], +m[6], +m[7]), name, text: m[8].slice(0, 220) }] : [];
    });
  });
}

// The page and the API of Prometheus have one origin, on loopback.
const server = createServer((req, res) => {
  const path = new URL(req.url, 'http://x').pathname;
  if (path.startsWith('/prometheus/')) {
    const { host, 'accept-encoding': _, ...headers } = req.headers;
    return req.pipe(request(new URL(req.url.slice('/prometheus'.length), prometheus), { method: req.method, headers },
      (r) => r.pipe(res.writeHead(r.statusCode, r.headers))).on('error', (e) => res.writeHead(502).end(e.message)));
  }
  if (path === '/logs') return res.writeHead(200, { 'content-type': types['.json'] }).end(JSON.stringify(logLines(process.env.LOGS)));
  const file = join('build', normalize(path === '/' ? '/index.html' : path));
  if (!existsSync(file) || !statSync(file).isFile()) return res.writeHead(404).end();
  createReadStream(file).pipe(res.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' }));
}).listen(0, '127.0.0.1');
await new Promise((r) => server.once('listening', r));

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--font-render-hinting=none', '--force-color-profile=srgb'],
});
let status = 0;
const fail = (text) => { status = 1; console.error(text); };
try {
  const page = await browser.newPage();
  page.on('console', (m) => (m.type() === 'error' ? fail : console.error)(`console ${m.type()}: ${m.text()}`));
  page.on('pageerror', (e) => fail(`page: ${e.stack ?? e}`));
  page.on('response', (r) => r.status() >= 400 && fail(`${r.status()} ${r.url()}`));
  await page.emulateTimezone('UTC');
  await page.setViewport({ width: WIDTH, height: 900 });
  await page.goto(`http://127.0.0.1:${server.address().port}/?${query}`);
  const report = await (await page.waitForFunction('window.report', { timeout: 60_000 })).jsonValue();
  if (report.error) throw new Error(report.error);
  await page.setViewport({ width: WIDTH, height: Math.ceil(report.height) });
  await page.waitForNetworkIdle({ idleTime: 300 }); // icons
  await page.evaluate(() => document.fonts.ready.then(() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))));
  await page.screenshot({ path: out });
  for (const p of report.panels) {
    if (p.error || p.empty) fail(`panel ${p.id} "${p.title}": ${p.error ?? 'no data'}`);
  }
  console.log(`${out}: ${report.panels.length} panels, ${report.notes} annotations`);
} catch (e) {
  fail(e.stack);
} finally {
  await browser.close();
  server.close();
}
process.exitCode = status;
