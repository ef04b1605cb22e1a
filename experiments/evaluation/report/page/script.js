'use strict';
// All text of models and files goes through textContent: it is data, never markup.
const data = JSON.parse(document.getElementById('data').textContent);
const runs = data.runs;
const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const pct = x => (100 * x).toFixed(1) + ' %';
const points = x => (x >= 0 ? '+' : '−') + Math.abs(100 * x).toFixed(1);
const byId = id => document.getElementById(id);

// --- the table
function bar(metric, run) {
  const box = el('span', {class: 'bar run' + run});
  const fill = el('i');
  fill.style.width = 100 * metric.value + '%';
  const whisker = el('b');
  whisker.style.left = 100 * metric.low + '%';
  whisker.style.width = Math.max(0.5, 100 * (metric.high - metric.low)) + '%';
  box.append(fill, whisker);
  return box;
}
function resultRow(s, run) {
  const names = Object.keys(s.metrics), first = s.metrics[names[0]];
  const others = names.slice(1)
      .map(n => `${n} ${pct(s.metrics[n].value)} [${pct(s.metrics[n].low)}, ${pct(s.metrics[n].high)}]`);
  const accuracy = el('td', {}, bar(first, run), ' ', el('strong', {}, pct(first.value)),
                      el('span', {class: 'muted'}, `  [${pct(first.low)}, ${pct(first.high)}]`));
  if (others.length) accuracy.title = others.join('\n');
  const cells = [el('td', {}, s.group || s.suite)];
  if (runs.length > 1) cells.push(el('td', {}, 'AB'[run]));
  cells.push(el('td', {class: 'n'}, String(s.num_problems)), el('td', {class: 'n'}, String(s.n)), accuracy);
  for (const x of [s.truncated, s.no_answer, s.unscorable]) cells.push(el('td', {class: 'n'}, pct(x)));
  for (const x of [s.thinking_tokens, s.answer_tokens])
    cells.push(el('td', {class: 'n', title: `median ${x.median.toFixed(0)}, 95th percentile ${x.p95.toFixed(0)}`}, x.mean.toFixed(0)));
  cells.push(el('td', {class: 'n', title: `backtracks ${s.backtracks_per_response.toFixed(2)}, mixed languages ${pct(s.language_mix)}`},
                s.reflections_per_response.toFixed(2)));
  return el('tr', s.group ? {class: 'group'} : {}, ...cells);
}
function results() {
  const head = ['suite', ...(runs.length > 1 ? ['model'] : []), 'problems', 'n', 'pass@1 (95 % interval)',
                'cut off', 'no answer', 'unscorable', 'thinking', 'answer', 'reflections'];
  const right = new Set(head.slice(runs.length > 1 ? 2 : 1).filter(h => !h.startsWith('pass@1')));
  const table = el('table', {}, el('tr', {}, ...head.map(h => el('th', right.has(h) ? {class: 'n'} : {}, h))));
  const rows = [];
  runs.forEach((run, r) => run.results.forEach((s, i) => rows.push([s.suite, s.group, r, s])));
  const order = [...new Set(rows.map(x => x[0]))];
  rows.sort((x, y) => order.indexOf(x[0]) - order.indexOf(y[0]) || x[1].localeCompare(y[1]) || x[2] - y[2]);
  for (const [, , r, s] of rows) table.append(resultRow(s, r));
  byId('results').append(el('div', {class: 'scroll'}, table), el('p', {class: 'muted'},
      'n: samples a problem. Cut off, no answer, unscorable: shares of the samples; all count as wrong. Thinking and answer: mean tokens (median and 95th percentile on hover). Reflections: “wait”, “let me check” and the like in a response.'));
  // further metrics
  const more = el('table', {}, el('tr', {}, el('th', {}, 'suite'), ...(runs.length > 1 ? [el('th', {}, 'model')] : []), el('th', {}, 'metric'),
                                  el('th', {class: 'n'}, 'value'), el('th', {}, '95 % interval'), el('th', {}, 'method')));
  let any = false;
  for (const [, group, r, s] of rows) {
    if (group) continue;
    for (const [name, m] of Object.entries(s.metrics).slice(1)) {
      any = true;
      more.append(el('tr', {}, el('td', {}, s.suite), ...(runs.length > 1 ? [el('td', {}, 'AB'[r])] : []), el('td', {}, name),
                     el('td', {class: 'n'}, pct(m.value)), el('td', {}, `[${pct(m.low)}, ${pct(m.high)}]`), el('td', {}, m.interval)));
    }
  }
  if (any) byId('results').append(el('details', {}, el('summary', {class: 'muted'}, 'pass@k, pass^k and consensus'), more));
}
function comparison() {
  if (!data.comparison.length) return;
  const table = el('table', {}, el('tr', {}, ...['suite', 'problems', 'A', 'B', 'B − A, points (95 % interval)', 'McNemar p', 'gained', 'lost']
      .map(h => el('th', {}, h))));
  for (const c of data.comparison)
    table.append(el('tr', {}, ...[c.suite, String(c.num_problems), pct(c.a), pct(c.b),
        `${points(c.difference)}  [${points(c.low)}, ${points(c.high)}]`, c.mcnemar_p.toPrecision(3), String(c.only_b), String(c.only_a)]
        .map(t => el('td', {}, t))));
  byId('comparison').append(el('h2', {}, 'A against B'), el('div', {class: 'scroll'}, table),
      el('p', {class: 'muted'}, 'Paired bootstrap over problems; McNemar’s exact test over problems that one model solves in at least half of its samples and the other does not.'));
}

// --- plots
const ns = 'http://www.w3.org/2000/svg';
const svg = (tag, attributes, text) => {
  const node = document.createElementNS(ns, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const height = bin => bin.parts.reduce((total, part) => total + part[0], 0);
/// Stacked columns. bins: [{label, parts: [[count, colour], …]}]; most: the count at the top of the axis
function columns(title, bins, xLabel, most) {
  const W = 360, H = 170, left = 34, bottom = 30, top = 8;
  const plot = svg('svg', {viewBox: `0 0 ${W} ${H}`, role: 'img'});
  const w = (W - left) / bins.length;
  for (const share of [0, 0.5, 1]) {
    const y = top + (H - top - bottom) * (1 - share);
    plot.append(svg('line', {x1: left, x2: W, y1: y, y2: y, stroke: 'currentColor', opacity: .15}));
    plot.append(svg('text', {x: left - 4, y: y + 3, 'text-anchor': 'end'}, String(Math.round(most * share))));
  }
  bins.forEach((bin, i) => {
    let y = H - bottom;
    for (const [count, colour] of bin.parts) {
      const h = (H - top - bottom) * count / most;
      y -= h;
      const rect = svg('rect', {x: left + i * w + 1, y, width: Math.max(1, w - 2), height: h, fill: colour, opacity: .8});
      rect.append(svg('title', {}, `${bin.label}: ${count}`));
      plot.append(rect);
    }
    if (bin.tick) plot.append(svg('text', {x: left + (i + .5) * w, y: H - bottom + 12, 'text-anchor': 'middle'}, bin.tick));
  });
  plot.append(svg('text', {x: left + (W - left) / 2, y: H - 4, 'text-anchor': 'middle'}, xLabel));
  byId('plots').append(el('figure', {}, el('figcaption', {}, title), plot));
}
function plots(suite) {
  byId('plots').replaceChildren();
  const name = r => runs.length > 1 ? ` (${'AB'[r]})` : '';
  const problems = data.problems.filter(p => !suite || p.suite === suite);
  // Plots of A and B have the same axes.
  const draw = plots => {
    const most = Math.max(1, ...plots.flatMap(([, bins]) => bins.map(height)));
    for (const [title, bins, xLabel] of plots) columns(title, bins, xLabel, most);
  };
  const longest = problems.flatMap(p => p.samples.flat()).reduce((most, s) => Math.max(most, s.tokens), 0);
  const step = Math.max(1, Math.ceil((longest + 1) / 24));
  draw(runs.map((run, r) => {
    const lengths = Array.from({length: Math.ceil((longest + 1) / step)}, (_, i) => ({
      label: `${i * step} to ${(i + 1) * step - 1} tokens`, good: 0, bad: 0, tick: i % 6 === 0 ? String(i * step) : ''}));
    for (const s of problems.flatMap(p => p.samples[r])) ++lengths[Math.floor(s.tokens / step)][s.good ? 'good' : 'bad'];
    return ['Response length; green: correct, red: wrong' + name(r),
            lengths.map(b => ({label: b.label, tick: b.tick, parts: [[b.good, 'var(--good)'], [b.bad, 'var(--bad)']]})), 'tokens'];
  }));
  draw(runs.map((run, r) => {
    const asked = problems.filter(p => p.samples[r].length);
    const bins = Math.min(10, asked.reduce((most, p) => Math.max(most, p.samples[r].length), 1));
    const solved = Array.from({length: bins + 1}, (_, i) => ({label: `about ${Math.round(100 * i / bins)} % of the samples correct`,
                                                              tick: String(Math.round(100 * i / bins)), count: 0}));
    for (const p of asked) ++solved[Math.round(bins * p.samples[r].filter(s => s.good).length / p.samples[r].length)].count;
    return ['Problems by share of correct samples' + name(r),
            solved.map(b => ({label: b.label, tick: b.tick, parts: [[b.count, r ? 'var(--b)' : 'var(--a)']]})), '% of the samples correct'];
  }));
}

// --- samples
function sample(s) {
  const box = el('div', {class: 'sample ' + (s.good ? 'good' : 'bad')});
  box.append(el('span', {class: 'status'}, s.status.replace('_', ' ')),
             el('span', {class: 'muted'}, `  sample ${s.sample}, score ${s.score}, ${s.tokens} tokens` + (s.cut ? ', cut off' : '') +
                (s.detail ? ` — ${s.detail}` : '')));
  if (s.thinking) box.append(el('details', {class: 'thinking'}, el('summary', {}, `thinking, ${s.thinking_tokens} tokens`), el('pre', {}, s.thinking)));
  if (s.answer) box.append(el('pre', {}, s.answer));
  if (s.extracted) box.append(el('div', {class: 'muted'}, 'graded: ', el('code', {}, s.extracted)));
  return box;
}
/// The prompt in one line, without the chat template's marks.
const titleOf = p => p.prompt.replace(/<[|｜][^<>]*[|｜]>/g, ' ').replace(/\s+/g, ' ').trim().slice(0, 300);
function problemNode(p) {
  const dots = el('span', {class: 'dots'});
  p.samples.forEach((list, r) => {
    if (r) dots.append(' | ');
    for (const s of list.slice(0, 32)) dots.append(el('span', {class: s.good ? 'good' : 'bad'}, s.good ? '●' : '○'));
  });
  const node = el('details', {class: 'problem'},
                  el('summary', {}, el('span', {class: 'muted'}, `${p.suite} ${p.id}`), el('span', {class: 'title'}, titleOf(p)), dots));
  node.addEventListener('toggle', () => {
    if (!node.open || node.lastChild.tagName === 'DIV') return;
    const sides = el('div', {class: 'sides' + (runs.length > 1 ? ' two' : '')});
    p.samples.forEach((list, r) => sides.append(el('div', {}, ...(runs.length > 1 ? [el('strong', {}, 'AB'[r])] : []), ...list.map(sample))));
    node.append(el('div', {}, el('pre', {class: 'prompt'}, p.prompt), el('div', {class: 'muted'}, 'ground truth: ', el('code', {}, p.truth)), sides));
  });
  return node;
}
const solved = list => list.length > 0 && 2 * list.filter(s => s.good).length >= list.length;
const verdicts = {
  all: () => true,
  solved: p => solved(p.samples[p.samples.length - 1]),
  unsolved: p => !solved(p.samples[p.samples.length - 1]),
  'cut off': p => p.samples.flat().some(s => s.cut),
};
if (runs.length > 1) {
  verdicts['gained by B'] = p => !solved(p.samples[0]) && solved(p.samples[1]);
  verdicts['lost by B'] = p => solved(p.samples[0]) && !solved(p.samples[1]);
}
for (const status of new Set(data.problems.flatMap(p => p.samples.flat().map(s => s.status))))
  verdicts['some sample ' + status.replace('_', ' ')] = p => p.samples.flat().some(s => s.status === status);
let matching = [], shown = 0;
function more() {
  byId('list').append(...matching.slice(shown, shown + 50).map(problemNode));
  shown = Math.min(matching.length, shown + 50);
  byId('more').hidden = shown >= matching.length;
}
function search() {
  const text = byId('text').value.toLowerCase(), suite = byId('suite').value, verdict = verdicts[byId('verdict').value];
  matching = data.problems.filter(p => (!suite || p.suite === suite) && verdict(p) && (!text ||
      (p.id + '\n' + p.prompt + '\n' + p.truth).toLowerCase().includes(text) ||
      p.samples.flat().some(s => (s.thinking + s.answer).toLowerCase().includes(text))));
  byId('count').textContent = `${matching.length} of ${data.problems.length} problems`;
  byId('list').replaceChildren();
  shown = 0;
  more();
  plots(suite);
}

byId('title').textContent = runs.length > 1 ? 'Evaluation: A against B' : 'Evaluation';
runs.forEach((run, r) => byId('models').append(
    el('div', {class: 'muted'}, (runs.length > 1 ? 'AB'[r] + ': ' : '') + `${run.config.model} (weights ${run.config.weights_hash}, ${run.config.numeric_family}, seed ${run.config.seed})`)));
results();
comparison();
for (const suite of new Set(data.problems.map(p => p.suite))) byId('suite').append(el('option', {value: suite}, suite));
for (const name of Object.keys(verdicts)) byId('verdict').append(el('option', {value: name}, name));
for (const id of ['text', 'suite', 'verdict']) byId(id).addEventListener('input', search);
byId('more').addEventListener('click', more);
if (data.note) byId('note').textContent = data.note;
byId('settings').textContent = JSON.stringify(runs.map(r => r.config), null, 2);
search();
