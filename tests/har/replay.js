// Opens a HAR document with Playwright and compares what a page gets with the files: replay.js DOCUMENT URL FOLDER
const { createHash } = require('crypto');
const { readFileSync, readdirSync } = require('fs');
const { chromium } = require('playwright-core');

const [document, url, folder] = process.argv.slice(2);
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');
let failed = 0;

function compare(what, found, expected) {
  const same = JSON.stringify(found) === JSON.stringify(expected);
  console.log(`${same ? 'same' : 'DIFFERS'}  ${what}${same ? '' : `: ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`}`);
  failed += !same;
}

// In the page: the status, the length and the SHA-256 of a response, decoded as a page sees it.
const fetched = async ([address, options]) => {
  const response = await fetch(address, options);
  const body = await response.arrayBuffer();
  const hash = await crypto.subtle.digest('SHA-256', body);
  const hex = [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return [response.status, body.byteLength, hex];
};

(async () => {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const context = await browser.newContext();
  await context.routeFromHAR(document, { notFound: 'abort' });
  const page = await context.newPage();

  // A page with what belongs to it, reached by a redirection.
  const response = await page.goto(`${url}/old`);
  compare('/old leads to', [response.status(), response.url()], [200, `${url}/page.html`]);
  compare('title', await page.title(), 'Größe');
  compare('the script ran', await page.evaluate(() => document.documentElement.dataset.ran), 'yes');
  compare('the style applies', await page.evaluate(() => getComputedStyle(document.body).color), 'rgb(1, 2, 3)');
  const size = () => [document.images[0].naturalWidth, document.images[0].naturalHeight];
  compare('the picture', await page.evaluate(size), [2, 3]);

  for (const name of readdirSync(folder).sort()) {
    const bytes = readFileSync(`${folder}/${name}`);
    const found = await page.evaluate(fetched, [`${url}/${name}`, {}]);
    compare(`/${name}`, found, [200, bytes.length, digest(bytes)]);
  }
  compare('/missing', await page.evaluate(fetched, [`${url}/missing`, {}]), [404, 8, digest('not here')]);
  const form = {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: 'user=me&word=a+b',
  };
  compare('POST /form', await page.evaluate(fetched, [`${url}/form`, form]), [201, 6, digest('taken\n')]);

  // What the document does not have fails: nothing else answers.
  const refused = await page.evaluate(async (address) => fetch(address).then(() => 'answered', () => 'refused'), `${url}/other`);
  compare('/other', refused, 'refused');
  await browser.close();
  console.log(failed ? `${failed} differ` : 'everything is the same');
  process.exitCode = failed ? 1 : 0;
})().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
