// What tools/shots.py asks of each page of the site: each function returns an array of sentences about faults.

// elements that reach beyond the window, outside of boxes that scroll by themselves
function tooWide() {
  const w = document.documentElement.clientWidth, page = document.documentElement.scrollWidth;
  const scrolls = e => {
    for (e = e.parentElement; e && e !== document.body; e = e.parentElement)
      if (getComputedStyle(e).overflowX !== 'visible') return true;
    return false;
  };
  const out = [...document.body.querySelectorAll('*')].filter(e => {
    const r = e.getBoundingClientRect();
    return r.width && r.right > w + 1 && r.left < w && getComputedStyle(e).position !== 'fixed' && !scrolls(e);
  }).map(e => `${e.tagName.toLowerCase()}.${e.className} ${Math.round(e.getBoundingClientRect().right)} px`);
  return page > w ? [...out.slice(0, 3), `page ${page} px`] : [];
}

// on a wide screen code is shown whole; on a phone it scrolls
function clippedCode() {
  if (innerWidth < 1000) return [];
  document.querySelectorAll('details').forEach(d => d.open = true);
  return [...document.querySelectorAll('div.sourceCode pre')]
    .filter(p => p.getClientRects().length && p.scrollWidth > p.clientWidth + 1)
    .map(p => `clipped code: ${p.innerText.split('\n').sort((a, b) => b.length - a.length)[0].trim().slice(0, 60)}`)
    .slice(0, 3);
}

// pictures that do not load, and pictures without a text for those who do not see them
function pictures() {
  return [...document.images].flatMap(i => {
    const name = 'picture ' + (i.getAttribute('src') || '').slice(0, 40);
    return [i.complete && i.naturalWidth ? '' : `${name} does not load`,
            i.alt.trim() ? '' : `${name} has no alternative text`];
  }).filter(w => w);
}

// text with a contrast below 2.5 (WCAG's formula)
function faint() {
  const rgb = s => (s.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(c[i]), 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0.9) return c;
    }
    return [255, 255, 255];
  };
  const found = new Map();
  const walk = document.createTreeWalker(document.querySelector('main') || document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, words = walk.currentNode.data.trim();
    if (words.length < 2 || !e.getClientRects().length || e.closest('mark, svg, .katex')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 2.5) found.set(e.tagName + '.' + e.className, `${words.slice(0, 30)} ${ratio.toFixed(1)}`);
  }
  return [...found].slice(0, 3).map(([k, v]) => `faint: ${k.toLowerCase()} ${v}`);
}

// addresses of what the search box finds; on a phone the box is behind the menu button
async function search(word) {
  const pause = ms => new Promise(r => setTimeout(r, ms));
  const find = () => [...document.querySelectorAll('.smalldocs-search input')].find(e => e.offsetParent);
  if (!find()) {
    document.querySelector('.navbar-toggler')?.click();
    await pause(600);
  }
  const box = find(), shown = '.smalldocs-search-results.show';
  if (!box) return [];
  box.focus();
  box.value = word;
  box.dispatchEvent(new Event('input', {bubbles: true}));
  for (let k = 0; k < 50 && !document.querySelector(shown); k++) await pause(100);
  return [...document.querySelectorAll(shown + ' a')].map(a => a.href);
}
