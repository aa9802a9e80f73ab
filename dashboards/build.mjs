// Writes canary.json, jobs.json and fleet.json from src/, and build/check.mjs.
//   node build.mjs        the JSON and the checks
//   node build.mjs page   also build/: the page that draws the dashboards
//   node build.mjs fresh  writes nothing; fails if the JSON files are not what the code makes
import { build } from 'esbuild';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';

const mode = process.argv[2] ?? '';
// For CommonJS parts, and for @grafana/data, which wants a navigator (Node has one from version 21 on).
const BANNER = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url); globalThis.navigator ??= { languages: ['en-US'] };";
const node = { bundle: true, platform: 'node', format: 'esm', logLevel: 'warning' };

rmSync('build', { recursive: true, force: true });
mkdirSync('build');
await build({ ...node, entryPoints: ['src/main.ts'], outfile: 'build/main.mjs' });
const { dashboards } = await import('./build/main.mjs');
for (const [name, dashboard] of Object.entries(dashboards)) {
  const text = `${JSON.stringify(dashboard, null, 2)}\n`;
  if (mode !== 'fresh') writeFileSync(`${name}.json`, text);
  else if (readFileSync(`${name}.json`, 'utf8') !== text) {
    console.error(`${name}.json is not what src/ makes: run npm run build, and commit it`);
    process.exitCode = 1;
  }
}
await build({ ...node, entryPoints: ['src/check.ts'], outfile: 'build/check.mjs', banner: { js: BANNER } });

if (mode === 'page') {
  mkdirSync('build/public/fonts/inter', { recursive: true });
  mkdirSync('build/public/fonts/roboto', { recursive: true });
  for (const name of Object.keys(dashboards)) cpSync(`${name}.json`, `build/${name}.json`);
  // monaco-editor is for editors only, in a chunk that nothing here loads.
  await build({
    entryPoints: ['src/page.tsx'], outdir: 'build', bundle: true, format: 'esm', splitting: true, minify: !process.env.DEBUG, jsx: 'automatic',
    external: ['monaco-editor', 'monaco-editor/*'], target: 'chrome120', logLevel: 'warning', define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  });
  cpSync('src/index.html', 'build/index.html');
  // @grafana/ui asks for icons and fonts below public/, where Grafana's server has them.
  cpSync('node_modules/@grafana/ui/dist/public/img', 'build/public/build/img', { recursive: true });
  for (const f of ['Inter-Regular', 'Inter-Medium', 'Inter-Italic', 'Inter-MediumItalic']) cpSync(`node_modules/inter-ui/web/${f}.woff2`, `build/public/fonts/inter/${f}.woff2`);
  const fonts = readFileSync('node_modules/@grafana/ui/dist/esm/themes/GlobalStyles/fonts.mjs', 'utf8');
  const mono = /roboto\/([^']+\.woff2)/.exec(fonts)[1];
  cpSync('node_modules/@fontsource/roboto-mono/files/roboto-mono-latin-400-normal.woff2', `build/public/fonts/roboto/${mono}`);
}
