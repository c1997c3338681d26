// SPDX-License-Identifier: Apache-2.0
#include "src/sweep/sweep_page.hpp"

namespace kvzip::tool {

const std::string_view kPageStyle = R"css(
:root{color-scheme:light dark;--paper:#fff;--text:#222;--faint:#5f5f5f;--rule:#d8d8d8;--band:#f4f5f6;--link:#0072b2;
--heat:#0b4f8a;--k0:#0072b2;--k1:#e69f00;--k2:#117733;--k3:#d55e00;--k4:#8d6bb0;--k5:#56b4e9;--k6:#8a8a8a}
@media screen and (prefers-color-scheme:dark){:root{--paper:#14171a;--text:#e8e8e8;--faint:#a8a8a8;--rule:#3a4046;
--band:#1d2125;--link:#5ab4e6;--heat:#8fd0ff;--k0:#3c97d3;--k2:#4fae68;--k4:#ab8bd0}}
body{margin:2rem auto;max-width:1300px;padding:0 1.2rem;background:var(--paper);color:var(--text);
font:15px/1.45 Helvetica,Arial,"Liberation Sans",sans-serif}
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.6rem 0 .3rem;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.8rem 0 .4rem}p{margin:.3rem 0}.faint{color:var(--faint)}
code,pre{font:12.5px/1.4 "DejaVu Sans Mono",Consolas,monospace}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.2rem 0}
figure{margin:1rem 0}figure svg{width:100%;max-width:1000px;height:auto;display:block}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.16rem .45rem;text-align:left;white-space:nowrap;border-bottom:1px solid var(--rule)}
td.right,th.right{text-align:right}thead th{border-bottom:2px solid var(--rule);vertical-align:bottom}
tbody tr:hover{background:var(--band)}tr.front td:first-child{font-weight:bold}
th button{all:unset;cursor:pointer;font-weight:bold}th button:focus-visible{outline:2px solid var(--link);outline-offset:2px}
th[aria-sort=ascending] button::after{content:" \2191"}th[aria-sort=descending] button::after{content:" \2193"}
td.wrap{white-space:normal;overflow-wrap:anywhere;vertical-align:top;min-width:18rem}
summary{cursor:pointer;font-weight:bold;margin:.8rem 0 .3rem}summary:focus-visible{outline:2px solid var(--link)}
.bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:3px .8rem;font-size:13px;align-items:center}
.bar{display:flex;height:15px}.bar span{display:block;height:100%}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;font-size:13px;margin:.5rem 0}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em}
.k0{background:var(--k0)}.k1{background:var(--k1)}.k2{background:var(--k2)}.k3{background:var(--k3)}
.k4{background:var(--k4)}.k5{background:var(--k5)}.k6{background:var(--k6)}
.controls{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:.4rem 0}select{font:inherit;font-size:13px;max-width:26rem}
table.heat th,table.heat td{border:0;padding:0 .3rem;font-size:11.5px;font-weight:normal}
table.heat thead th:not(:first-child){text-align:center;color:var(--faint);min-width:1.15rem}
table.heat td{min-width:1.15rem;height:1.15rem;border:1px solid var(--paper);
background:color-mix(in srgb,var(--heat) var(--t),var(--band))}table.heat td.none{background:none}
.scale{display:inline-block;width:9rem;height:.8em;margin:0 .4em;background:linear-gradient(90deg,var(--band),var(--heat))}
@media print{body{max-width:none;margin:0}.controls{display:none}.bar span,table.heat td,.legend i,.scale{
-webkit-print-color-adjust:exact;print-color-adjust:exact}}
)css";

const std::string_view kPageScript = R"js(
'use strict';
(() => {
  const UNITS = {B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15, EB: 1e18};
  const make = (name, text, attributes) => {
    const out = document.createElement(name);
    if (text !== undefined) out.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) out.setAttribute(key, value);
    return out;
  };

  // What a cell is sorted by: a number, text, or null, which stands last either way.
  const keyOf = (cell) => {
    const text = cell ? cell.textContent.trim() : '';
    if (text === '-' || text === '') return null;
    if (text === 'exact') return Infinity;
    const size = /^([0-9.]+) ([kMGTPE]?B)$/.exec(text);
    if (size) return Number(size[1]) * UNITS[size[2]];
    const number = Number(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === 'number' && typeof b === 'number') return a < b ? -1 : a > b ? 1 : 0;
    return String(a).localeCompare(String(b), undefined, {numeric: true});
  };
  const sortBy = (table, column) => {
    const heads = Array.from(table.tHead.rows[0].cells);
    const direction = heads[column].getAttribute('aria-sort') === 'ascending' ? -1 : 1;
    heads.forEach((head) => head.removeAttribute('aria-sort'));
    heads[column].setAttribute('aria-sort', direction > 0 ? 'ascending' : 'descending');
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row, at) => ({row, at, key: keyOf(row.cells[column])}));
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.at - b.at;
      return direction * compare(a.key, b.key) || a.at - b.at;
    });
    body.append(...rows.map((entry) => entry.row));
  };
  for (const table of document.querySelectorAll('table.sortable')) {
    Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
      const button = make('button', head.textContent, {type: 'button', title: 'sort'});
      head.textContent = '';
      head.append(button);
      button.addEventListener('click', () => sortBy(table, column));
    });
  }

  const figure = (value) => value === 0 ? '0' : Number(value.toPrecision(3)).toString();
  // Rows of {name, cells}; null is a cell without a figure. Colours are logarithmic between the least and the most.
  const heatMap = (corner, columns, rows, where) => {
    const some = rows.flatMap((row) => row.cells).filter((v) => v !== null && v > 0);
    const least = Math.min(...some), most = Math.max(...some);
    const share = (v) => v <= 0 ? 0 : most > least ? 8 + 92 * Math.log(v / least) / Math.log(most / least) : 50;
    const table = make('table', undefined, {class: 'heat'});
    const head = table.createTHead().insertRow();
    head.append(make('th', corner), ...columns.map((name) => make('th', name, {scope: 'col'})));
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      line.append(make('th', row.name, {scope: 'row'}));
      row.cells.forEach((value, at) => {
        const place = row.name + ', ' + columns[at];
        if (value === null) {
          line.append(make('td', '', {class: 'none', title: place + ': no figure'}));
        } else {
          const label = place + ': ' + figure(value);
          line.append(make('td', '', {title: label, 'aria-label': label, style: '--t:' + share(value).toFixed(1) + '%'}));
        }
      });
    }
    const scale = make('p', some.length ? figure(least) : 'no figures', {class: 'faint'});
    if (some.length) scale.append(make('span', '', {class: 'scale'}), figure(most) + ' (logarithmic)');
    where.replaceChildren(table, scale);
  };

  const data = JSON.parse(document.getElementById('layers').textContent);
  const select = (label, entries, where) => {
    const out = make('select');
    entries.forEach((text, at) => out.append(make('option', text, {value: at})));
    const holder = make('label', label + ' ');
    holder.append(out);
    where.append(holder);
    return out;
  };
  document.querySelectorAll('.heat-maps').forEach((place) => {
    const dump = data.dumps[Number(place.dataset.dump)];
    const controls = make('div', undefined, {class: 'controls'});
    const upper = make('div', undefined, {class: 'scroll'}), lower = make('div', undefined, {class: 'scroll'});
    const what = select('figure', dump.figures.map((f) => f.label), controls);
    const which = select('heads of', dump.settings.map((s) => s.name), controls);
    const layers = Array.from(new Set(dump.settings.flatMap((s) => s.layers.map((l) => l.layer)))).sort((a, b) => a - b);
    const names = layers.map((l) => 'layer ' + l);
    const draw = () => {
      const id = dump.figures[Number(what.value)].id;
      const at = (setting, layer) => setting.layers.find((l) => l.layer === layer);
      const pick = (from) => from && from[id] !== undefined ? from[id] : null;
      heatMap('settings', layers, dump.settings.map((s) => ({
        name: s.name, cells: layers.map((l) => pick((at(s, l) || {}).figures))})), upper);
      const setting = dump.settings[Number(which.value)];
      const heads = Math.max(0, ...setting.layers.map((l) => l.heads.length));
      heatMap('heads', layers, Array.from({length: heads}, (unused, h) => ({
        name: 'head ' + h, cells: layers.map((l) => pick(((at(setting, l) || {heads: []}).heads)[h]))})), lower);
    };
    what.addEventListener('change', draw);
    which.addEventListener('change', draw);
    place.replaceChildren(controls, make('p', 'Settings by layers', {class: 'faint'}), upper,
                          make('p', 'Heads by layers, of the setting chosen', {class: 'faint'}), lower);
    draw();
  });
})();
)js";

}  // namespace kvzip::tool
