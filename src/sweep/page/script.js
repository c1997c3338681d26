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
